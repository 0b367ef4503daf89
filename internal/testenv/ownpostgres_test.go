package testenv_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/everflag/everflag/internal/testenv"
	"github.com/everflag/everflag/internal/testenv/server"
)

func TestPostgresServerFaults(t *testing.T) {
	t.Parallel()
	s := testenv.PostgresServer(t, testenv.PGOptions{Conf: map[string]string{"max_replication_slots": "3"}})
	db := s.Database(t)
	wantEqual(t, "the setting", testenv.Value[string](t, db, "SHOW max_replication_slots"), "3")
	wantEqual(t, "where shared memory is", testenv.Value[string](t, db, "SHOW dynamic_shared_memory_type"), "mmap")
	db.Exec(t, "CREATE TABLE a (b int); INSERT INTO a VALUES (1)")
	conn := db.Conn(t)
	address := s.URL("postgres")

	s.Freeze(t)
	wantError(t, "an open connection to a frozen server", query(conn, 200*time.Millisecond))
	wantError(t, "a new connection to a frozen server", connect(address, 200*time.Millisecond))
	s.Thaw(t)
	want(t, "a new connection after the thaw", connect(address, soon))

	s.Freeze(t)
	s.Kill(t)
	wantError(t, "a connection to a killed server", connect(address, soon))
	s.Start(t)
	wantEqual(t, "what was committed before the kill", testenv.Value[int](t, db, "SELECT b FROM a"), 1)

	for _, mode := range []server.StopMode{server.Smart, server.Fast, server.Immediate} {
		s.Stop(t, mode)
		wantError(t, "a connection to a stopped server", connect(address, soon))
		s.Start(t)
		wantEqual(t, "what was committed before the stop", testenv.Value[int](t, db, "SELECT b FROM a"), 1)
	}

	s.SetConf(t, map[string]string{"work_mem": "2MB"})
	testenv.Eventually(t, soon, func() error {
		got := testenv.Value[string](t, db, "SHOW work_mem")
		return expect(got == "2MB", "work_mem is %s", got)
	})
}

// Servers that are copies of one template must not pass for one another.
func TestPostgresServersDiffer(t *testing.T) {
	t.Parallel()
	const identity = "SELECT system_identifier::text FROM pg_control_system()"
	one := testenv.PostgresServer(t, testenv.PGOptions{})
	two := testenv.PostgresServer(t, testenv.PGOptions{})
	first := testenv.Value[string](t, one.Database(t), identity)
	if second := testenv.Value[string](t, two.Database(t), identity); first == second {
		t.Errorf("both servers are %s", first)
	}
	one.Kill(t)
	one.Start(t) // reads WAL, which must agree with pg_control
	wantEqual(t, "the identifier after recovery", testenv.Value[string](t, one.Database(t), identity), first)
}

func TestPostgresStandby(t *testing.T) {
	t.Parallel()
	primary := testenv.PostgresServer(t, testenv.PGOptions{Process: true})
	db := primary.Database(t)
	db.Exec(t, "CREATE TABLE a (b int); INSERT INTO a VALUES (1)")
	standby := primary.Standby(t, testenv.PGOptions{})
	onStandby := &testenv.DB{URL: standby.URL(db.Name), Name: db.Name}

	db.Exec(t, "INSERT INTO a VALUES (2)")
	testenv.Eventually(t, soon, func() error {
		got := testenv.Value[int](t, onStandby, "SELECT count(*) FROM a")
		return expect(got == 2, "%d rows on the standby", got)
	})
	_, err := onStandby.Conn(t).Exec(t.Context(), "INSERT INTO a VALUES (3)")
	wantError(t, "writing to the standby", err)

	primary.Kill(t)
	standby.Promote(t)
	onStandby.Exec(t, "INSERT INTO a VALUES (3)")
	wantEqual(t, "rows after the promotion", testenv.Value[int](t, onStandby, "SELECT count(*) FROM a"), 3)
}

func TestBaseBackupIsWhole(t *testing.T) {
	t.Parallel()
	s := testenv.PostgresServer(t, testenv.PGOptions{Process: true})
	s.Database(t).Exec(t, "SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
	dir := s.BaseBackup(t)
	for pattern, n := range map[string]int{"PG_VERSION": 1, "backup_label": 1, "pg_wal/0*": 1, "postmaster.pid": 0, "pg_replslot/*": 0} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		want(t, "listing", err)
		if len(found) < n || n == 0 && len(found) > 0 {
			t.Errorf("%s: found %q", pattern, found)
		}
	}
}

func TestPostgresSocket(t *testing.T) {
	t.Parallel()
	s := testenv.PostgresServer(t, testenv.PGOptions{Process: true})
	config, err := pgx.ParseConfig(s.URL("postgres"))
	want(t, "reading the address", err)
	config.Host = s.SocketDir
	conn, err := pgx.ConnectConfig(t.Context(), config)
	want(t, "connecting", err)
	want(t, "closing", conn.Close(t.Context()))
}
