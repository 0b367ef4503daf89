package replication

import (
	"fmt"
	"net/url"
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
			if want == "replica identity" { // publishing the table would have made this fail (F50)
				b.exec("UPDATE posthog_team SET id = id")
			}
			if err == nil || !strings.Contains(err.Error(), want) || !Permanent(err) || strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), "secret") {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

// The role that setup --print-sql describes suffices, however often the SQL is run and whether the role was there, and teardown leaves nothing (F72).
func TestSetupWithLeastPrivilege(t *testing.T) {
	t.Parallel()
	b := small(t)
	role := fmt.Sprintf("the \"role\" of %s", b.cfg.Slot)
	quoted := pgx.Identifier{role}.Sanitize()
	run := func(sql string) {
		t.Helper()
		for _, statement := range strings.SplitAfter(sql, ";\n") { // one by one, as psql does
			b.exec(statement)
		}
	}
	sql, err := SetupSQL(t.Context(), b.cfg, role)
	if err != nil {
		t.Fatal(err)
	}
	run(sql)
	t.Cleanup(func() { b.exec("DROP OWNED BY " + quoted); b.exec("DROP ROLE " + quoted) })
	b.exec("ALTER ROLE " + quoted + " NOREPLICATION PASSWORD 'its own'")
	run(sql)
	b.exec("ALTER PUBLICATION " + pgx.Identifier{b.cfg.Publication}.Sanitize() + " DROP TABLE posthog_cohort")
	if sql, err = SetupSQL(t.Context(), b.cfg, role); err != nil { // of what is missing now
		t.Fatal(err)
	}
	run(sql)
	run(sql)
	u, err := url.Parse(b.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "its own")
	b.cfg.PostgresURL, b.cfg.NoSetup = u.String(), true
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

// F50, F51: from setup to teardown no table of the application's is altered: not even its row in the catalog is written anew. One that cannot be replicated
// is written as ever.
func TestTablesAreLeftAlone(t *testing.T) {
	t.Parallel()
	b := small(t)
	b.exec("CREATE TABLE journal (entry text); INSERT INTO journal VALUES ('first')")
	look := func() string {
		return testenv.Value[string](t, b.db, `SELECT string_agg(format('%s identity %s, written by %s at %s', c.relname, c.relreplident, c.xmin, c.ctid), E'\n' ORDER BY c.oid)
			|| (SELECT string_agg(format('%s.%s %s', a.attrelid, a.attname, a.xmin), E'\n' ORDER BY a.attrelid, a.attnum) FROM pg_attribute a JOIN pg_class o ON o.oid = a.attrelid
				WHERE o.relnamespace = 'public'::regnamespace)
			FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace`)
	}
	before := look()
	if err := Setup(t.Context(), b.cfg, b.log); err != nil {
		t.Fatal(err)
	}
	r := b.start()
	b.equal()
	b.exec("UPDATE journal SET entry = 'second'")
	b.exec("DELETE FROM journal")
	b.exec("UPDATE posthog_featureflag SET name = 'changed'")
	b.exec("DELETE FROM posthog_experiment")
	if _, err := r.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.equal()
	r.stop()
	b.free()
	if err := Teardown(t.Context(), b.cfg, b.log); err != nil {
		t.Fatal(err)
	}
	if after := look(); after != before {
		t.Errorf("the catalog was\n%s\nand is\n%s", before, after)
	}
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
