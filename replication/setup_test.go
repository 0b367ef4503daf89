package replication

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/everflag/everflag/internal/testenv"
)

// Errors name the setting and the remedy.
func TestErrorsNameTheRemedy(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	name, weak := db.Role(t, "")
	_, able := db.Role(t, "REPLICATION")
	for want, test := range map[string]struct{ schema, url string }{
		"--postgres-url":         {smallSchema, "postgres://user:secret@host:port/db"},
		"password in --postgres": {smallSchema, strings.Replace(weak, name+":", name+":wrong", 1)},
		"--schema":               {"CREATE TABLE posthog_team (id int PRIMARY KEY)", ""},
		"missing privilege":      {smallSchema, able},
		"has no column":          {"CREATE TABLE posthog_team (id int PRIMARY KEY); CREATE TABLE posthog_featureflag (id int PRIMARY KEY)", ""},
		"replica identity": {`CREATE TABLE posthog_team (id int PRIMARY KEY); CREATE TABLE posthog_featureflag (id int PRIMARY KEY, team_id int);
			ALTER TABLE posthog_team REPLICA IDENTITY NOTHING`, ""},
		"not logged":                        {"CREATE UNLOGGED TABLE posthog_team (id int PRIMARY KEY); CREATE TABLE posthog_featureflag (id int PRIMARY KEY, team_id int)", ""},
		"belongs to plugin \"test_decoding": {smallSchema, ""},
	} {
		t.Run(want, func(t *testing.T) {
			b := newBench(t, testenv.Postgres(t), test.schema)
			if strings.Contains(want, "plugin") {
				b.exec("SELECT pg_create_logical_replication_slot($1, 'test_decoding')", b.cfg.Slot)
			}
			if test.url != "" {
				b.cfg.PostgresURL = strings.Replace(test.url, "/"+db.Name, "/"+b.db.Name, 1)
			}
			err := b.start().wait()
			if err == nil || !strings.Contains(err.Error(), want) || !Permanent(err) || strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), "secret") {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

// The role that setup --print-sql describes suffices, and teardown leaves nothing (F72).
func TestSetupWithLeastPrivilege(t *testing.T) {
	t.Parallel()
	b := small(t)
	sql, err := SetupSQL(t.Context(), b.cfg, `the "role"`)
	if err != nil {
		t.Fatal(err)
	}
	role, url := b.db.Role(t, "REPLICATION")
	for line := range strings.SplitSeq(sql, "\n") {
		if !strings.HasPrefix(line, "--") && line != "" && !strings.HasPrefix(line, "CREATE ROLE") {
			b.exec(strings.ReplaceAll(line, `"the ""role"""`, pgx.Identifier{role}.Sanitize()))
		}
	}
	b.cfg.PostgresURL, b.cfg.NoSetup = url, true
	findings, err := Check(t.Context(), b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.Fatal {
			t.Errorf("unexpected finding: %s", f)
		}
	}
	r := b.start()
	b.equal()
	b.exec("TRUNCATE posthog_experiment")
	b.equal()
	b.cfg.PostgresURL = b.db.URL
	if err := Teardown(t.Context(), b.cfg, b.log); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("teardown beside a replicator: %v", err)
	}
	r.stop()
	b.free()
	for range 2 {
		if err := Teardown(t.Context(), b.cfg, b.log); err != nil {
			t.Fatal(err)
		}
	}
	if n := testenv.Value[int](t, b.db, "SELECT count(*)::int FROM pg_publication"); n != 0 {
		t.Errorf("%d publications are left", n)
	}
	b.cfg.NoSetup = false
	for range 2 {
		if err := Setup(t.Context(), b.cfg, b.log); err != nil {
			t.Fatal(err)
		}
	}
	b.start()
	b.equal()
}

func TestCheckFindings(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t, testenv.PGOptions{Conf: map[string]string{
		"wal_level": "replica", "max_wal_senders": "1", "max_replication_slots": "1", "synchronous_standby_names": "everflag", "synchronous_commit": "local",
	}})
	db := server.Database(t)
	_, url := db.Role(t, "")
	cfg := Defaults()
	cfg.PostgresURL = url
	findings, err := Check(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]Finding{}
	for _, f := range findings {
		all[strings.Fields(f.Object)[0]] = f
	}
	for object, fatal := range map[string]bool{
		"wal_level": true, "max_wal_senders": true, "max_replication_slots": true, "synchronous_standby_names": true, "max_slot_wal_keep_size": false,
		"role": true, "publication": true, "table": true,
	} {
		if f, ok := all[object]; !ok || f.Fatal != fatal || f.Remedy == "" {
			t.Errorf("%s: %+v", object, f)
		}
	}
	r := newBench(t, db, "")
	if err := r.start().wait(); err == nil || !strings.Contains(err.Error(), "wal_level = logical") {
		t.Errorf("Run returned %v", err)
	}
}
