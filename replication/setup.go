package replication

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

// Setup creates or adjusts publication and slot. It may be run any number of times. The creation of the slot waits for running transactions, about which
// the log tells.
func Setup(ctx context.Context, cfg Config, log *zap.Logger) error {
	s, err := openSession(ctx, &cfg, log)
	if err != nil {
		return err
	}
	defer closeConn(s.query)
	cfg.NoSetup = false
	if err := s.ensureTables(ctx); err != nil {
		return err
	}
	slot, end, err := s.look(ctx)
	if err != nil {
		return err
	}
	switch d := judgeSlot(slot, s.server.database, end); d.action {
	case actRefuse:
		return refuse("%s", d.reason)
	case actRecreate:
		if slot.exists {
			return refuse("%s: `replicator run` replaces it and fills the cache anew", d.reason)
		}
	case actStream, actReconcile, actStandBy:
		log.Info("publication and replication slot are there", zap.String("publication", cfg.Publication), zap.String("slot", cfg.Slot))
		return nil
	}
	conn, err := cfg.connectReplication(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	said := newWaiting(nil, log)
	if _, err := createExplained(ctx, conn, s.query, cfg.Slot, false, s.server.version, lockLimitMax, said.tell); err != nil {
		return err
	}
	log.Info("replication slot created", zap.String("slot", cfg.Slot))
	return nil
}

// Teardown drops slot and publication, so that nothing of ours keeps log or costs anything (F72). A slot that is in use is left alone.
func Teardown(ctx context.Context, cfg Config, log *zap.Logger) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	conn, err := cfg.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if err := dropSlot(ctx, conn, cfg.Slot); err != nil {
		if hasState(err, stateObjectInUse) {
			return refuse("a replicator is using slot %q: stop it first", cfg.Slot)
		}
		return explained(err)
	}
	stepCtx, cancel := step(ctx, queryTimeout, "dropping the publication")
	defer cancel()
	if _, err := conn.Exec(stepCtx, "DROP PUBLICATION IF EXISTS "+pgx.Identifier{cfg.Publication}.Sanitize()); err != nil {
		return fmt.Errorf("dropping publication %q: %w", cfg.Publication, explained(err))
	}
	log.Info("publication and replication slot are gone", zap.String("publication", cfg.Publication), zap.String("slot", cfg.Slot))
	return nil
}

// SetupSQL returns what Setup would do as SQL, for whoever owns the tables to run, with a role that may do no more than replicate. It may be run any number
// of times, whether the role is there or not.
func SetupSQL(ctx context.Context, cfg Config, role string) (string, error) {
	s, err := openSession(ctx, &cfg, zap.NewNop())
	if err != nil {
		return "", err
	}
	defer closeConn(s.query)
	c, err := readCatalog(ctx, s.query, s.server.version, cfg.Schema, cfg.Publication)
	if err != nil {
		return "", err
	}
	p, err := readPublication(ctx, s.query, s.server.version, cfg.Publication)
	if err != nil {
		return "", err
	}
	slot, _, err := s.look(ctx)
	if err != nil {
		return "", err
	}
	return setupSQL(&cfg, role, &s.server, c, p, slot.exists), nil
}

func setupSQL(cfg *Config, role string, srv *server, c *catalog, p publicationState, slotExists bool) string {
	quoted := pgx.Identifier{role}.Sanitize()
	var tables []string
	for i := range c.tables {
		tables = append(tables, pgx.Identifier{c.schema, c.tables[i].binding.table.Name}.Sanitize())
	}
	lines := []string{
		"-- A role for the replicator. Give it a password of your own.",
		unlessThere(fmt.Sprintf("CREATE ROLE %s WITH LOGIN REPLICATION PASSWORD 'change me'", quoted),
			fmt.Sprintf("ALTER ROLE %s WITH LOGIN REPLICATION; -- its password stays", quoted)),
		fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", pgx.Identifier{srv.database}.Sanitize(), quoted),
		fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;", pgx.Identifier{c.schema}.Sanitize(), quoted),
		fmt.Sprintf("GRANT SELECT ON %s TO %s;", strings.Join(tables, ", "), quoted),
		"-- Optional: lets it say which transactions of other roles a copy waits for.",
		fmt.Sprintf("GRANT pg_read_all_stats TO %s;", quoted),
		"",
		"-- The publication: whole tables, all kinds of changes, no column lists. Run the replicator with --no-setup.",
	}
	statements := publicationSQL(cfg.Publication, p, c)
	if len(statements) == 0 {
		lines = append(lines, "-- (it is there already)")
	}
	for _, sql := range statements {
		lines = append(lines, unlessThere(sql, "NULL; -- as it should be"))
	}
	lines = append(lines, "", "-- The slot. Without it the replicator creates it, for which its role suffices.")
	if slotExists {
		return strings.Join(append(lines, "-- (it is there already)"), "\n") + "\n"
	}
	failover := ""
	if srv.version >= 170000 {
		failover = ", failover => true"
	}
	lines = append(lines, fmt.Sprintf("SELECT pg_create_logical_replication_slot(%s, '%s'%s)", quoteLiteral(cfg.Slot), outputPlugin, failover),
		fmt.Sprintf("WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %s);", quoteLiteral(cfg.Slot)))
	return strings.Join(lines, "\n") + "\n"
}

// unlessThere runs sql, and otherwise instead if what sql creates is there already. Only the last line ends in a semicolon: some tools take each such line
// for the end of a statement.
func unlessThere(sql, otherwise string) string {
	return fmt.Sprintf("DO $everflag$ BEGIN\n    %s; -- fails if it is there\nEXCEPTION WHEN duplicate_object THEN\n    %s\nEND $everflag$;", sql, otherwise)
}

// openSession connects for a command that does not replicate.
func openSession(ctx context.Context, cfg *Config, log *zap.Logger) (*session, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &session{cfg: cfg, log: log}
	return s, s.prepare(ctx)
}
