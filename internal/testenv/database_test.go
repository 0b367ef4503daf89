package testenv_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/everflag/everflag/internal/testenv"
)

func TestPostgresIsolatesTests(t *testing.T) {
	t.Parallel()
	one, two := testenv.Postgres(t), testenv.Postgres(t)
	one.Exec(t, "CREATE TABLE a (b int); INSERT INTO a VALUES (7)")
	wantEqual(t, "the row", testenv.Value[int](t, one, "SELECT b FROM a WHERE b = $1", 7), 7)
	wantEqual(t, "the table in the other database", testenv.Value[bool](t, two, "SELECT to_regclass('a') IS NULL"), true)
	wantEqual(t, "wal_level", testenv.Value[string](t, one, "SHOW wal_level"), "logical")
	if major := os.Getenv("TEST_POSTGRES_VERSION"); major != "" && os.Getenv("TEST_POSTGRES_URL") == "" {
		got, _, _ := strings.Cut(testenv.Value[string](t, one, "SHOW server_version"), ".")
		wantEqual(t, "the major version", got, major)
	}
}

func TestPostgresDropsSlotsInUseAndRoles(t *testing.T) {
	t.Parallel()
	watch := testenv.Postgres(t)
	var database, role string
	streamed := make(chan struct{})
	t.Run("inner", func(t *testing.T) {
		db := testenv.Postgres(t)
		database = db.Name
		name, address := db.Role(t, "REPLICATION")
		role = name
		want(t, "logging in as the role", connect(address, soon))
		db.Exec(t, "CREATE TABLE owned (id int); GRANT SELECT ON owned TO "+name)
		db.Exec(t, "SELECT pg_create_logical_replication_slot('idle_"+strings.ToLower(db.Name[len(db.Name)-10:])+"', 'pgoutput')")

		// A walsender that streams keeps its slot active and its database busy. Nothing but the end of the database ends it.
		conn, err := pgconn.Connect(t.Context(), db.URL+"&replication=database")
		want(t, "connecting for replication", err)
		slot := "busy_" + db.Name[len(db.Name)-10:]
		_, err = conn.Exec(t.Context(), "CREATE_REPLICATION_SLOT "+slot+" LOGICAL pgoutput").ReadAll()
		want(t, "creating the slot", err)
		db.Exec(t, "CREATE PUBLICATION p FOR ALL TABLES")
		go func() {
			defer close(streamed)
			_, _ = conn.Exec(context.Background(), "START_REPLICATION SLOT "+slot+" LOGICAL 0/0 (proto_version '1', publication_names 'p')").ReadAll()
			_ = conn.Close(context.Background()) // the server has already closed it
		}()
		testenv.Eventually(t, soon, func() error {
			n := testenv.Value[int](t, db, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND active", slot)
			return expect(n == 1, "%d active slots", n)
		})
	})
	<-streamed
	left := testenv.Value[int](t, watch, `SELECT (SELECT count(*) FROM pg_database WHERE datname = $1)
		+ (SELECT count(*) FROM pg_replication_slots WHERE database = $1) + (SELECT count(*) FROM pg_roles WHERE rolname = $2)`, database, role)
	wantEqual(t, "databases, slots and roles left", left, 0)
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	for version, flags := range map[testenv.SchemaVersion]int{testenv.Schema2026: 40, testenv.Schema2023: 20} {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			db := testenv.Postgres(t)
			testenv.LoadSchema(t, db, version)
			testenv.LoadSeed(t, db, version)
			wantEqual(t, "flags", testenv.Value[int](t, db, "SELECT count(*) FROM posthog_featureflag"), flags)
			wantEqual(t, "the demo team", testenv.Value[int](t, db, "SELECT id FROM posthog_team WHERE api_token = $1", testenv.DemoToken), 1)
			stored := testenv.Value[int](t, db, "SELECT pg_column_size(filters) FROM posthog_featureflag WHERE key = 'club-members'")
			if stored < 20_000 {
				t.Errorf("the long flag takes %d bytes: it is not stored out of line", stored)
			}
			db.Exec(t, "UPDATE posthog_featureflag SET name = name") // every CHECK and deferred key holds

			testenv.AddTeam(t, db, 2000, testenv.Columns{"timezone": "Asia/Tokyo"})
			id := testenv.AddFlag(t, db, 2000, "added", `{"groups":[{"rollout_percentage":50}]}`, testenv.Columns{"active": false})
			wantEqual(t, "the flag", testenv.Value[string](t, db, "SELECT filters#>>'{groups,0,rollout_percentage}' FROM posthog_featureflag WHERE id = $1", id), "50")
			wantEqual(t, "the zone", testenv.Value[string](t, db, "SELECT timezone FROM posthog_team WHERE id = 2000"), "Asia/Tokyo")
		})
	}
}

// Every foreign key of PostHog is deferred: a team can go before its flags in one transaction.
func TestSchemaDefersForeignKeys(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	testenv.LoadSchema(t, db, testenv.Schema2026)
	testenv.AddTeam(t, db, 1, nil)
	testenv.AddFlag(t, db, 1, "a", `{}`, nil)
	db.Exec(t, "BEGIN; DELETE FROM posthog_team; DELETE FROM posthog_featureflag; COMMIT")
	_, err := db.Conn(t).Exec(t.Context(), "INSERT INTO posthog_evaluationcontext VALUES (gen_random_uuid(), 'x', now(), false, 99)")
	wantError(t, "a context of a team that does not exist", err)
}

func TestEventuallyWaits(t *testing.T) {
	t.Parallel()
	calls := 0
	testenv.Eventually(t, soon, func() error {
		calls++
		return expect(calls == 3, "call %d", calls)
	})
	wantEqual(t, "calls", calls, 3)
}

// BenchmarkBoth measures what a test pays for a fresh database and a key space of its own.
func BenchmarkBoth(b *testing.B) {
	testenv.Postgres(b) // the first ones start the servers
	testenv.Redis(b)
	for b.Loop() {
		testenv.Postgres(b)
		testenv.Redis(b)
	}
}
