package replication

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// tableState is one declared table as the catalog describes it.
type tableState struct {
	binding     *binding
	layout      *layout
	oid         uint32
	partitioned bool
	persistent  bool   // logged, so that it can be replicated
	storage     string // oids and file numbers: they change with every rewrite and TRUNCATE
	identity    string // REPLICA IDENTITY: d, f, i or n
	idColumns   string // columns of the replica identity, or of the primary key
	published   string // how the publication has come to carry the table; empty if it does not
	narrowed    bool   // published with a column list or a row filter
	readable    bool   // we may SELECT
	rows        int64
}

// catalog is the state of all declared tables that exist, in the order of the declarations.
type catalog struct {
	schema      string
	tables      []tableState
	fingerprint string
}

// table returns the state of the binding's table, or nil if it does not exist.
func (c *catalog) table(b *binding) *tableState {
	for i := range c.tables {
		if c.tables[i].binding == b {
			return &c.tables[i]
		}
	}
	return nil
}

// rows is about how many rows the tables have, for progress.
func (c *catalog) rows() (total int64) {
	for _, t := range c.tables {
		total += t.rows
	}
	return total
}

// catalogSQL reads tables only, none of the functions that look past the transaction's snapshot, so that a copy can tell how the tables were defined at
// its position. The placeholder is what version 15 added.
const catalogSQL = `
	SELECT c.relname, c.oid, c.relkind = 'p', c.relpersistence = 'p', c.relreplident::text, has_table_privilege(c.oid, 'SELECT'),
		greatest(c.reltuples, 0)::bigint,
		(WITH RECURSIVE tree AS (
			SELECT c.oid AS relid
			UNION ALL SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.relid WHERE c.relkind = 'p')
		 SELECT string_agg(k.oid || ':' || k.relfilenode, ' ' ORDER BY k.oid) FROM tree JOIN pg_class k ON k.oid = tree.relid),
		coalesce((SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
			FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
			WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END), ''),
		(SELECT json_agg(json_build_object('name', a.attname, 'type', a.atttypid::bigint, 'mod', a.atttypmod, 'generated', a.attgenerated <> '') ORDER BY a.attnum)
			FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
		coalesce((SELECT concat_ws(' ', p.oid, p.xmin, r.oid) FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
			WHERE p.pubname = $2 AND (p.puballtables OR r.oid IS NOT NULL%s)), ''),
		%s
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname = $1 AND c.relname = ANY ($3) AND c.relkind IN ('r', 'p')`

func catalogQuery(version int) string {
	if version < 150000 {
		return fmt.Sprintf(catalogSQL, "", "false")
	}
	return fmt.Sprintf(catalogSQL,
		" OR EXISTS (SELECT 1 FROM pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)",
		`EXISTS (SELECT 1 FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
			WHERE p.pubname = $2 AND r.prrelid = c.oid AND (r.prattrs IS NOT NULL OR r.prqual IS NOT NULL))`)
}

// readCatalog describes the declared tables as the connection's snapshot sees them.
func readCatalog(ctx context.Context, conn *pgx.Conn, version int, schema, publication string) (*catalog, error) {
	ctx, cancel := step(ctx, queryTimeout, "reading the catalog")
	defer cancel()
	names := make([]string, 0, len(bindings))
	for i := range bindings {
		names = append(names, bindings[i].table.Name)
	}
	rows, err := conn.Query(ctx, catalogQuery(version), schema, publication, names)
	if err != nil {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanTable)
	if err != nil {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	c := &catalog{schema: schema}
	for i := range bindings {
		for _, t := range found {
			if t.binding == &bindings[i] {
				c.tables = append(c.tables, t)
			}
		}
	}
	c.fingerprint = c.digest()
	return c, nil
}

func scanTable(row pgx.CollectableRow) (tableState, error) {
	var t tableState
	var name string
	var columnsJSON []byte
	err := row.Scan(&name, &t.oid, &t.partitioned, &t.persistent, &t.identity, &t.readable, &t.rows, &t.storage, &t.idColumns, &columnsJSON,
		&t.published, &t.narrowed)
	if err != nil {
		return t, err
	}
	var columns []struct {
		Name      string `json:"name"`
		Type      uint32 `json:"type"`
		Mod       int32  `json:"mod"`
		Generated bool   `json:"generated"`
	}
	if err := json.Unmarshal(columnsJSON, &columns); err != nil {
		return t, fmt.Errorf("columns of %q: %w", name, err)
	}
	stored := make([]relationColumn, 0, len(columns))
	for _, c := range columns {
		if !c.Generated { // the stream does not carry them, so a copy must not either (F46)
			stored = append(stored, relationColumn{name: c.Name, typeOID: c.Type, typmod: c.Mod})
		}
	}
	t.binding = bindingOf(name)
	t.layout = newLayout(t.binding, t.oid, stored)
	return t, nil
}

// digest identifies everything about the tables that the stream does not report or that decides what is cached.
func (c *catalog) digest() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", c.schema)
	for _, t := range c.tables {
		b := t.binding
		fmt.Fprintf(h, "%s|%s|%s %s|%s %t|%s %s %s %s\n", t.layout.signature, t.storage, t.identity, t.idColumns, t.published, t.narrowed,
			b.key, b.team, b.parent, b.hidden)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// usableIdentity reports whether publishing the table lets the application's UPDATE and DELETE succeed (F50).
func (t *tableState) usableIdentity() bool {
	return t.identity == "f" || t.identity != "n" && t.idColumns != ""
}

// check reports what about the tables makes replication impossible.
func (c *catalog) check() error {
	var missing []string
	for i := range bindings {
		b := &bindings[i]
		t := c.table(b)
		if t == nil {
			if b.required {
				missing = append(missing, c.schema+"."+b.table.Name)
			}
			continue
		}
		if err := t.check(c.schema); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return tableError{fmt.Errorf("missing table %s: check --postgres-url and --schema", strings.Join(missing, ", "))}
	}
	return nil
}

func (t *tableState) check(schema string) error {
	name := schema + "." + t.binding.table.Name
	switch column := t.layout.missing(); {
	case column != "":
		return tableError{fmt.Errorf("table %s has no column %q", name, column)}
	case !t.persistent:
		return tableError{fmt.Errorf("table %s is not logged, so it cannot be replicated: ALTER TABLE %s SET LOGGED", name, name)}
	case !t.readable:
		return tableError{fmt.Errorf("missing privilege SELECT on %s: GRANT SELECT ON %s TO the role in --postgres-url", name, name)}
	case !t.usableIdentity():
		return tableError{fmt.Errorf("table %s has no usable replica identity, so publishing it would make UPDATE and DELETE fail: "+
			"give it a primary key, or remove REPLICA IDENTITY NOTHING", name)}
	}
	return nil
}

// tableError is permanent for a program that starts. One at work waits, because migrations come in steps.
type tableError struct{ err error }

func (e tableError) Error() string   { return e.err.Error() }
func (e tableError) Unwrap() error   { return e.err }
func (e tableError) Permanent() bool { return true }
