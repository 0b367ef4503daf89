package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/change"
)

// Finding is something that would fail or hurt later.
type Finding struct {
	Object  string `json:"object"` // the setting, role or table it is about
	Problem string `json:"problem"`
	Remedy  string `json:"remedy"`
	Fatal   bool   `json:"fatal"` // replication cannot work with it
}

func (f Finding) String() string {
	kind := "warning"
	if f.Fatal {
		kind = "error"
	}
	return fmt.Sprintf("%s: %s: %s. %s", kind, f.Object, f.Problem, f.Remedy)
}

// checker collects findings.
type checker struct {
	cfg      *Config
	conn     *pgx.Conn
	server   server
	findings []Finding
}

func (k *checker) add(fatal bool, object, problem, remedy string) {
	k.findings = append(k.findings, Finding{Object: object, Problem: problem, Remedy: remedy, Fatal: fatal})
}

// Identify says which source a cache would mirror: what a look at the cache needs to tell it from another.
func Identify(ctx context.Context, cfg Config) (change.Source, error) {
	s, err := openSession(ctx, &cfg, zap.NewNop())
	if err != nil {
		return change.Source{}, err
	}
	closeConn(s.query)
	return s.source, nil
}

// Check looks at everything that replication needs, without changing anything. The error is of the look itself.
func Check(ctx context.Context, cfg Config) ([]Finding, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	k := &checker{cfg: &cfg}
	var err error
	if k.conn, err = cfg.connect(ctx); err != nil {
		return nil, err
	}
	defer closeConn(k.conn)
	if k.server, err = readServer(ctx, k.conn); err != nil {
		return nil, explained(err)
	}
	k.settings()
	for _, look := range []func(context.Context) error{k.role, k.capacity, k.tables, k.slot, k.replication} {
		if err := look(ctx); err != nil {
			return k.findings, err
		}
	}
	return k.findings, nil
}

func (k *checker) settings() {
	s := &k.server
	if s.version < oldestVersion {
		k.add(true, "server_version", fmt.Sprintf("Postgres %d is too old", s.version/10000), "Use Postgres 14 or newer.")
	}
	if s.walLevel != "logical" {
		k.add(true, "wal_level", fmt.Sprintf("is %q", s.walLevel), "Set wal_level = logical in postgresql.conf and restart Postgres.")
	}
	if namesStandby(s.syncNames, k.cfg.ApplicationName) {
		k.add(true, "synchronous_standby_names", fmt.Sprintf("is %q: commits would wait for the replicator as for a standby", s.syncNames),
			fmt.Sprintf("Name the real standbys there, without * and without %q.", k.cfg.ApplicationName))
	}
	if s.keepSize == "-1" {
		k.add(false, "max_slot_wal_keep_size", "is -1: while the replicator does not run, log grows without bound",
			"Set a bound that the disk can hold, for example 10GB. A slot that is lost to it is replaced and the cache reconciled.")
	}
	if s.senderTimeout > 0 && s.senderTimeout.Seconds() < 1 {
		k.add(false, "wal_sender_timeout", fmt.Sprintf("is %s, so that a short pause ends the connection", s.senderTimeout), "Set it to some seconds or more.")
	}
}

func (k *checker) role(ctx context.Context) error {
	ctx, cancel := step(ctx, queryTimeout, "reading the role")
	defer cancel()
	var name string
	var replication, create bool
	err := k.conn.QueryRow(ctx, `SELECT rolname, rolreplication OR rolsuper OR pg_has_role(oid, 'rds_replication', 'USAGE'),
		has_database_privilege(current_database(), 'CREATE')
		FROM pg_roles WHERE rolname = current_user AND EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'rds_replication')
		UNION ALL
		SELECT rolname, rolreplication OR rolsuper, has_database_privilege(current_database(), 'CREATE')
		FROM pg_roles WHERE rolname = current_user LIMIT 1`).Scan(&name, &replication, &create)
	if err != nil {
		return fmt.Errorf("reading the role: %w", err)
	}
	if !replication {
		k.add(true, "role "+name, "has no REPLICATION attribute", fmt.Sprintf("ALTER ROLE %s REPLICATION;", pgx.Identifier{name}.Sanitize()))
	}
	p, err := readPublication(ctx, k.conn, k.server.version, k.cfg.Publication)
	if err != nil {
		return err
	}
	if !p.exists && !create {
		k.add(true, "publication "+k.cfg.Publication, fmt.Sprintf("does not exist, and role %s may not create it", name),
			"Let the owner of the tables run what `replicator setup --print-sql` prints.")
	}
	if p.exists && p.allTables {
		k.add(false, "publication "+k.cfg.Publication, "is FOR ALL TABLES: UPDATE and DELETE fail on any table without a replica identity",
			"Drop it and let `replicator setup` create one for the tables that are needed.")
	}
	return nil
}

// capacity wants room for the slot and the walsender of the stream, and for those of a reconcile.
func (k *checker) capacity(ctx context.Context) error {
	ctx, cancel := step(ctx, queryTimeout, "counting slots and walsenders")
	defer cancel()
	var slots, senders, own int
	err := k.conn.QueryRow(ctx, `SELECT current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots)::int,
		current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication)::int,
		(SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1)::int`, k.cfg.Slot).Scan(&slots, &senders, &own)
	if err != nil {
		return fmt.Errorf("counting slots and walsenders: %w", err)
	}
	if want := 2 - own; slots < want {
		k.add(true, "max_replication_slots", fmt.Sprintf("%d free, %d needed: one to follow, one for each copy", slots, want), "Raise it and restart Postgres.")
	}
	if senders < 2 {
		k.add(true, "max_wal_senders", fmt.Sprintf("%d free, 2 needed: one to follow, one for each copy", senders), "Raise it and restart Postgres.")
	}
	return nil
}

func (k *checker) tables(ctx context.Context) error {
	c, err := readCatalog(ctx, k.conn, k.server.version, k.cfg.Schema, k.cfg.Publication)
	if err != nil {
		return err
	}
	for i := range bindings {
		b := &bindings[i]
		t := c.table(b)
		name := k.cfg.Schema + "." + b.table.Name
		if t == nil {
			if b.required {
				k.add(true, "table "+name, "is missing", "Check --postgres-url and --schema.")
			}
			continue
		}
		if err := t.check(k.cfg.Schema); err != nil {
			problem, remedy, _ := strings.Cut(err.Error(), ": ")
			k.add(true, "table "+name, problem, remedy)
		}
		if t.narrowed {
			k.add(k.cfg.NoSetup, "publication "+k.cfg.Publication, "publishes "+name+" with a column list or a row filter",
				"Publish the whole table: `replicator setup` does.")
		}
	}
	return nil
}

func (k *checker) slot(ctx context.Context) error {
	slot, err := readSlot(ctx, k.conn, k.server.version, k.cfg.Slot)
	if err != nil {
		return err
	}
	end, err := walEnd(ctx, k.conn)
	if err != nil {
		return err
	}
	switch d := judgeSlot(slot, k.server.database, end); d.action {
	case actRefuse:
		k.add(true, "slot "+k.cfg.Slot, d.reason, "Choose another --slot.")
	case actRecreate:
		if slot.exists {
			k.add(false, "slot "+k.cfg.Slot, d.reason, "The replicator replaces it and fills the cache anew.")
		}
	case actStream, actReconcile, actStandBy:
	}
	return nil
}

// replication tries whether the replication protocol gets through, to the same server.
func (k *checker) replication(ctx context.Context) error {
	s := &session{cfg: k.cfg, server: k.server}
	conn, err := s.connectPair(ctx)
	if err == nil {
		closeConn(conn)
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	for _, f := range k.findings {
		if strings.HasPrefix(f.Object, "role ") || f.Object == "max_wal_senders" {
			return nil // that is why
		}
	}
	k.add(true, "replication connection", err.Error(), "Connect to Postgres itself, and allow replication connections of the role in pg_hba.conf.")
	return nil
}
