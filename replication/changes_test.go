package replication

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

// random is text that does not compress, so that it is stored out of line.
func random(bytes int) string {
	raw := make([]byte, bytes/2)
	_, _ = rand.Read(raw)
	return hex.EncodeToString(raw)
}

func TestEveryKindOfChange(t *testing.T) {
	t.Parallel()
	b := small(t)
	b.neverAhead()
	b.start()
	b.equal()
	reconciles := b.sink.count("exact")
	filters := fmt.Sprintf(`{"payload": "%s"}`, random(20_000))
	for _, step := range []struct{ name, sql string }{
		{"insert and update in one transaction (F40)", fmt.Sprintf(`BEGIN; INSERT INTO posthog_featureflag (id, key, team_id, filters) VALUES (100000, 'big', 1, '%s');
			UPDATE posthog_featureflag SET active = false WHERE id = 100000; COMMIT`, filters)},
		{"update beside an out-of-line value (F40)", `UPDATE posthog_featureflag SET rollout_percentage = 7 WHERE id = 100000`},
		{"move with an out-of-line value", `UPDATE posthog_featureflag SET team_id = 2 WHERE id = 100000`},
		{"new primary key with an out-of-line value (F42)", `UPDATE posthog_featureflag SET id = 100001 WHERE id = 100000000`},
		{"swap of tokens (F42)", `BEGIN; UPDATE posthog_team SET api_token = 'x' WHERE id = 1; UPDATE posthog_team SET api_token = 'phc_one' WHERE id = 2;
			UPDATE posthog_team SET api_token = 'phc_two' WHERE id = 1; COMMIT`},
		{"savepoints (F56)", `BEGIN; INSERT INTO posthog_cohort (team_id, name) VALUES (1, 'kept'); SAVEPOINT a; INSERT INTO posthog_cohort (team_id, name) VALUES (1, 'gone');
			ROLLBACK TO a; INSERT INTO posthog_cohort (team_id, name) VALUES (2, 'kept too'); COMMIT`},
		{"rollback", `BEGIN; DELETE FROM posthog_team; ROLLBACK`},
		{"soft delete", `UPDATE posthog_featureflag SET deleted = true WHERE key = 'a'`},
		{"undelete", `UPDATE posthog_featureflag SET deleted = false WHERE key = 'a'`},
		{"move of a parent (F41)", `UPDATE posthog_featureflag SET team_id = 2 WHERE key = 'a'`},
		{"contexts through their flag", `BEGIN; INSERT INTO posthog_evaluationcontext VALUES ('00000000-0000-0000-0000-000000000001', 'main', 1);
			INSERT INTO posthog_featureflagevaluationcontext SELECT '00000000-0000-0000-0000-000000000002', id, '00000000-0000-0000-0000-000000000001'
			FROM posthog_featureflag WHERE key = 'a'; COMMIT`},
		{"unserved columns only", `UPDATE posthog_featureflag SET last_called_at = now()`},
		{"bulk", `INSERT INTO posthog_featureflag (key, team_id, filters) SELECT 'bulk' || i, 1 + i % 2, '{"a": "\\u00fc\\t\\n"}' FROM generate_series(1, 2000) i`},
		{"bulk update", `UPDATE posthog_featureflag SET name = E'tab\tnewline\nback\\slash "quote" ü' WHERE key LIKE 'bulk%'`},
		{"bulk delete", `DELETE FROM posthog_featureflag WHERE key LIKE 'bulk%'`},
		{"arrays, nulls and secrets", `UPDATE posthog_team SET recording_domains = ARRAY['https://a', NULL, 'b"c'], secret_api_token = 'phs_two', project_id = NULL WHERE id = 2`},
		{"deletion of a team", `BEGIN; DELETE FROM posthog_featureflag WHERE team_id = 2; DELETE FROM posthog_experiment; DELETE FROM posthog_featureflagevaluationcontext;
			DELETE FROM posthog_cohort WHERE team_id = 2; DELETE FROM posthog_team WHERE id = 2; COMMIT`},
	} {
		if _, err := b.conn.PgConn().Exec(context.Background(), step.sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		b.equal()
		if t.Failed() {
			t.Fatalf("after %s", step.name)
		}
	}
	if again := b.sink.count("exact"); again != reconciles {
		t.Errorf("something reconciled: %s", strings.Join(b.sink.history(), "; "))
	}
}

// Each of these cannot be applied row by row, and ends in a reconcile.
func TestWhatReconciles(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ sql, reason string }{
		"TRUNCATE (F43)": {`TRUNCATE posthog_featureflag, posthog_cohort CASCADE`, "TRUNCATE of posthog_cohort, posthog_experiment, posthog_featureflag"},
		"TRUNCATE within a transaction": {`BEGIN; INSERT INTO posthog_cohort (team_id) VALUES (1); TRUNCATE posthog_cohort;
			INSERT INTO posthog_cohort (team_id) VALUES (2); COMMIT`, "TRUNCATE of posthog_cohort"},
		"oversize (F57)":                {`INSERT INTO posthog_featureflag (key, team_id, name) SELECT i, 1, repeat('x', 100) FROM generate_series(1, 2000) i`, "changes more than"},
		"ADD COLUMN with default (F44)": {`ALTER TABLE posthog_featureflag ADD COLUMN version integer DEFAULT 5`, "definition"},
		"DROP COLUMN CASCADE (F78)":     {`ALTER TABLE posthog_featureflag DROP COLUMN name CASCADE`, "definition"},
		"ALTER TYPE (F44, F78)":         {`ALTER TABLE posthog_featureflag ALTER COLUMN rollout_percentage TYPE numeric(10, 2)`, "definition"},
		"RENAME COLUMN (F45)":           {`ALTER TABLE posthog_team RENAME COLUMN secret_api_token TO secret_api_token_backup`, "definition"},
		"drop and create again (F45)": {`BEGIN; DROP TABLE posthog_cohort; CREATE TABLE posthog_cohort (team_id integer, id serial PRIMARY KEY, filters text);
			INSERT INTO posthog_cohort (team_id, filters) VALUES (2, 'new'); COMMIT`, "definition"},
		"a table appears (F49)": {`BEGIN; CREATE TABLE posthog_grouptypemapping (id serial PRIMARY KEY, team_id integer, group_type text, group_type_index integer);
			INSERT INTO posthog_grouptypemapping (team_id, group_type, group_type_index) VALUES (1, 'company', 0); COMMIT`, "definition"},
		"a table vanishes":        {`DROP TABLE posthog_experiment`, "definition"},
		"publication loses table": {`ALTER PUBLICATION %s DROP TABLE posthog_cohort; INSERT INTO posthog_cohort (team_id, name) VALUES (1, 'unseen')`, "definition"},
		"a column list appears (F47, F78)": {`ALTER PUBLICATION %[1]s DROP TABLE posthog_cohort; ALTER PUBLICATION %[1]s ADD TABLE posthog_cohort (id, team_id);
			INSERT INTO posthog_cohort (team_id, name) VALUES (1, 'unseen')`, "definition"},
		"a row filter appears (F47)": {`ALTER PUBLICATION %[1]s DROP TABLE posthog_cohort; ALTER PUBLICATION %[1]s ADD TABLE posthog_cohort WHERE (id > 1000);
			INSERT INTO posthog_cohort (team_id, name) VALUES (1, 'unseen')`, "definition"},
		"updates are no longer published (F47)": {`ALTER PUBLICATION %s SET (publish = 'insert'); UPDATE posthog_featureflag SET name = 'unseen'`, "definition"},
		"generated columns are published (F46)": {`ALTER TABLE posthog_cohort ADD COLUMN query jsonb GENERATED ALWAYS AS ('[]'::jsonb) STORED;
			ALTER PUBLICATION %[1]s SET (publish_generated_columns = stored); INSERT INTO posthog_cohort (team_id, name) VALUES (1, 'seen')`, "definition"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := small(t)
			if (strings.HasPrefix(name, "a column list") || strings.HasPrefix(name, "a row filter")) && b.version() < 150000 {
				t.Skip("column lists and row filters came with 15")
			}
			if strings.HasPrefix(name, "generated columns") && b.version() < 180000 {
				t.Skip("the option came with 18")
			}
			b.cfg.MaxTxBytes = 100_000
			b.start()
			b.equal()
			before := b.sink.count("exact")
			sql := test.sql
			if strings.Contains(sql, "%") {
				sql = fmt.Sprintf(sql, b.cfg.Publication)
			}
			if _, err := b.conn.PgConn().Exec(context.Background(), sql).ReadAll(); err != nil {
				t.Fatal(err)
			}
			for range 20 { // what follows at once must not be applied to what is left of the old rows
				b.exec("UPDATE posthog_featureflag SET active = NOT active")
			}
			b.eventually(func() error {
				if b.sink.count("exact") == before {
					return fmt.Errorf("no reconcile yet")
				}
				return nil
			})
			b.equal()
			reconciles := b.sink.count("exact")
			for range 3 { // the stream goes on, row by row
				b.exec("INSERT INTO posthog_cohort (team_id) VALUES (2)")
				b.exec("UPDATE posthog_featureflag SET active = NOT active WHERE id < 10")
				b.equal()
			}
			if again := b.sink.count("exact") - reconciles; again > 1 { // what changed may be noticed in two ways
				t.Errorf("%d more reconciles: %s", again, strings.Join(b.sink.history(), "; "))
			}
			if history := strings.Join(b.sink.history(), "; "); !strings.Contains(history, test.reason) {
				t.Errorf("history is %s, want %q", history, test.reason)
			}
		})
	}
}

// The same records arrive through the copy as through the stream, for every type that occurs (F46, F52, F53).
func TestCopyAndStreamAgree(t *testing.T) {
	t.Parallel()
	const columns = `id serial PRIMARY KEY, team_id bigint, deleted boolean, name %s, filters jsonb, rollout_percentage numeric, version smallint,
		key text GENERATED ALWAYS AS ('generated') STORED`
	for kind, values := range map[string][]string{
		"text":             {"''", `E'\\ \t \n \r \b \f \x0b " ü'`, "NULL", "'\\N'", "repeat('x', 5000)"},
		"float8":           {"0.1", "'NaN'", "'-Infinity'", "1e300", "1.0/3"},
		"timestamptz":      {"'infinity'", "'0044-03-15 12:00:00+00 BC'", "'2026-01-01 12:34:56.789+05'"},
		"interval":         {"'1 year 2 mons -3 days 04:05:06.7'"},
		"bytea":            {`'\x00ff10'`, "'text'"},
		"varchar(20)[]":    {`ARRAY['a', NULL, 'b,c', '"', '{}']`, "'{}'", "ARRAY[['a'], ['b']]"},
		"jsonb[]":          {`ARRAY['{"a": 1.10}'::jsonb, NULL, '[]']`},
		"json":             {`'{"b":1,  "a":[1.10,1e5,"\u00fc"]}'`, "'null'"},
		"uuid":             {"'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"},
		"date":             {"'2026-02-28'", "'-infinity'"},
		"money":            {"12.5"},
		"inet":             {"'10.0.0.1/8'"},
		"name":             {"'identifier'"},
		"regclass":         {"'posthog_team'::regclass"},
		"bit varying":      {"B'0101'"},
		"public.mood":      {"'happy'", "'it''s'"},
		"public.shortname": {"'domain'"},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			db := testenv.Postgres(t)
			db.Exec(t, `CREATE TYPE mood AS ENUM ('happy', 'it''s'); CREATE DOMAIN shortname AS varchar(20);
				ALTER DATABASE `+db.Name+` SET DateStyle = 'German'; ALTER DATABASE `+db.Name+` SET extra_float_digits = -5;
				ALTER DATABASE `+db.Name+` SET IntervalStyle = 'iso_8601'; ALTER DATABASE `+db.Name+` SET bytea_output = 'escape';
				ALTER DATABASE `+db.Name+` SET TimeZone = 'Asia/Tokyo'`)
			b := newBench(t, db, `CREATE TABLE posthog_team (id serial PRIMARY KEY, api_token text); INSERT INTO posthog_team VALUES (1, 't');
				CREATE TABLE posthog_featureflag (`+fmt.Sprintf(columns, kind)+`)`)
			r := b.start()
			b.settled()
			for _, value := range values {
				b.exec(`INSERT INTO posthog_featureflag (team_id, name, filters, rollout_percentage, version)
					VALUES (1, ` + value + `, '{"a": 1.10, "b": 12345678901234567890, "c": "\u00e9\n"}', 1.50, 7), (1, NULL, '"scalar"', 'NaN', NULL)`)
			}
			b.eventually(func() error {
				if n := len(b.sink.snapshot()[1]); n != 1+2*len(values) {
					return fmt.Errorf("%d records", n)
				}
				return nil
			})
			streamed := b.sink.snapshot()
			report, err := r.Rebuild(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if report.TeamsWritten != 0 || report.Rows != 1+2*len(values) {
				t.Errorf("the copy differs from the stream: %+v\nstream %v\ncopy %v", report, streamed, b.sink.snapshot())
			}
			if _, ok := b.sink.snapshot()[1]["flag:1"].values["key"]; ok {
				t.Error("a generated column is served")
			}
		})
	}
}

// F62: a transaction that is prepared is not there before it is committed, wherever the stream is by then, and never if it is rolled back.
func TestTwoPhaseCommit(t *testing.T) {
	t.Parallel()
	b, _ := own(t, map[string]string{"max_prepared_transactions": "5"})
	r := b.start()
	b.equal()
	copies := b.sink.count("exact")
	for _, end := range []string{"COMMIT", "ROLLBACK"} {
		b.exec("BEGIN; INSERT INTO posthog_cohort (team_id, name) VALUES (1, 'prepared'); PREPARE TRANSACTION 'first'")
		b.exec("UPDATE posthog_featureflag SET name = $1", "while it is prepared, before "+end)
		b.equal() // with what plain queries return
		r.stop()  // the stream begins behind it
		r = b.start()
		b.exec(end + " PREPARED 'first'")
		b.exec("UPDATE posthog_featureflag SET name = $1", "after "+end)
		b.equal()
	}
	if again := b.sink.count("exact"); again != copies {
		t.Errorf("something reconciled: %s", strings.Join(b.sink.history(), "; "))
	}
}
