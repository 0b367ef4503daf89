package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// publicationState is what the catalog says of our publication.
type publicationState struct {
	exists     bool
	allTables  bool
	operations bool // publishes INSERT, UPDATE, DELETE and TRUNCATE
	viaRoot    bool // publishes the changes of partitions as those of their table
	generated  bool // publishes generated columns, which a copy does not read (F46)
}

func readPublication(ctx context.Context, conn *pgx.Conn, version int, name string) (publicationState, error) {
	ctx, cancel := step(ctx, queryTimeout, "reading the publication")
	defer cancel()
	p := publicationState{exists: true}
	generated := "false"
	if version >= 180000 {
		generated = "pubgencols <> 'n'"
	}
	err := conn.QueryRow(ctx, `SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot, `+generated+`
		FROM pg_publication WHERE pubname = $1`, name).Scan(&p.allTables, &p.operations, &p.viaRoot, &p.generated)
	if errors.Is(err, pgx.ErrNoRows) {
		return publicationState{}, nil
	}
	if err != nil {
		return p, fmt.Errorf("reading publication %q: %w", name, err)
	}
	return p, nil
}

// publicationOptions publish every kind of change, and those of partitions under the name of their table (F54).
const publicationOptions = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"

// publicationSQL is what makes the publication carry the tables: nothing if it does already. It never names columns or rows: a column list would make the
// application's ALTER TABLE fail or silently end the replication of a table (F78).
func publicationSQL(name string, p publicationState, c *catalog) []string {
	quoted := pgx.Identifier{name}.Sanitize()
	if !p.exists {
		var tables []string
		for _, t := range c.tables {
			tables = append(tables, t.reference(c.schema))
		}
		return []string{fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s WITH (%s)", quoted, strings.Join(tables, ", "), publicationOptions)}
	}
	var statements []string
	if !p.operations || !p.viaRoot {
		statements = append(statements, fmt.Sprintf("ALTER PUBLICATION %s SET (%s)", quoted, publicationOptions))
	}
	if p.generated {
		statements = append(statements, fmt.Sprintf("ALTER PUBLICATION %s SET (publish_generated_columns = none)", quoted))
	}
	for _, t := range c.tables {
		if t.narrowed {
			statements = append(statements, fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s", quoted, t.reference(c.schema)))
		}
		if t.narrowed || t.published == "" {
			statements = append(statements, fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s", quoted, t.reference(c.schema)))
		}
	}
	return statements
}

// reference is the table as a publication and a copy name it. Tables that inherit from ours by the old means are tables of their own.
func (t *tableState) reference(schema string) string {
	name := pgx.Identifier{schema, t.binding.table.Name}.Sanitize()
	if t.partitioned {
		return name
	}
	return "ONLY " + name
}

// readTables reads the tables and what the publication lacks to carry them. Nothing is repaired here: changes may have been missed already, so that the
// cache has to be marked first.
func readTables(ctx context.Context, conn *pgx.Conn, version int, cfg *Config) (c *catalog, repair []string, err error) {
	c, err = readCatalog(ctx, conn, version, cfg.Schema, cfg.Publication)
	if err != nil {
		return nil, nil, err
	}
	if err := c.check(); err != nil {
		return nil, nil, err
	}
	p, err := readPublication(ctx, conn, version, cfg.Publication)
	if err != nil {
		return nil, nil, err
	}
	repair = publicationSQL(cfg.Publication, p, c)
	if len(repair) > 0 && cfg.NoSetup {
		return nil, nil, tableError{fmt.Errorf("publication %q does not carry all tables: run `replicator setup`, or execute %s",
			cfg.Publication, strings.Join(repair, "; "))}
	}
	return c, repair, nil
}

// ensurePublication makes the publication carry the tables. It waits for locks only briefly, since others queue up behind us.
func ensurePublication(ctx context.Context, conn *pgx.Conn, version int, cfg *Config) (changed bool, err error) {
	_, repair, err := readTables(ctx, conn, version, cfg)
	if err != nil || len(repair) == 0 {
		return false, err
	}
	if err := execAll(ctx, conn, repair); err != nil {
		if hasState(err, stateUndefinedTable) { // it was there a moment ago
			err = fmt.Errorf("%w: %w", errMoved, err)
		}
		return false, fmt.Errorf("adjusting publication %q: %w", cfg.Publication, explained(err))
	}
	return true, nil
}

// execAll runs the statements in one transaction, with a bound on how long it waits for locks.
func execAll(ctx context.Context, conn *pgx.Conn, statements []string) error {
	ctx, cancel := step(ctx, queryTimeout, "adjusting the publication")
	defer cancel()
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '3s'"); err != nil {
			return err
		}
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}
