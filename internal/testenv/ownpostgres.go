package testenv

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/everflag/everflag/internal/testenv/server"
)

// PGOptions say what an own Postgres is like.
type PGOptions struct {
	Version string            // major version; empty means TEST_POSTGRES_VERSION, else the newest found
	Conf    map[string]string // postgresql.conf settings, e.g. "max_slot_wal_keep_size": "1MB"
	Process bool              // never a container: for DataDir, SocketDir, BaseBackup and Standby
}

// PGServer is a Postgres that one test has to itself and may hurt. Its address outlives stops and restarts.
type PGServer struct {
	Addr      string // host:port
	Version   string // e.g. "15.14"
	DataDir   string // empty in a container
	SocketDir string // empty in a container

	power
	server *server.Postgres
}

// PostgresServer starts a server for this test alone; it takes a few tenths of a second. Its log is shown if the test fails.
func PostgresServer(t testing.TB, options PGOptions) *PGServer {
	t.Helper()
	c, err := chosen()
	require(t, err)
	conf := server.PostgresConfig{Kind: c.own(options.Process), Version: cmp.Or(options.Version, os.Getenv("TEST_POSTGRES_VERSION")), Conf: options.Conf}
	return ownPostgres(t, func(ctx context.Context) (*server.Postgres, error) { return server.StartPostgres(ctx, conf) })
}

func ownPostgres(t testing.TB, start func(context.Context) (*server.Postgres, error)) *PGServer {
	t.Helper()
	pg, p := own(t, "Postgres", start)
	return &PGServer{Addr: pg.Addr, Version: pg.Version, DataDir: pg.DataDir, SocketDir: pg.SocketDir, server: pg, power: p}
}

// URL returns the superuser's address of a database; "postgres" always exists.
func (s *PGServer) URL(database string) string { return s.server.URL(database) }

// Database returns a fresh database on this server. It goes with the server.
func (s *PGServer) Database(t testing.TB) *DB {
	t.Helper()
	db := &DB{Name: uniqueName(t), Addr: s.Addr, admin: s.URL("postgres")}
	db.URL = s.URL(db.Name)
	step(t, "creating a database", func(ctx context.Context) error {
		return s.server.Do(ctx, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "CREATE DATABASE "+db.Name)
			return err
		})
	})
	return db
}

// Stop stops the server as pg_ctl would ("smart", "fast" or "immediate") and returns when it has ended.
func (s *PGServer) Stop(t testing.TB, mode server.StopMode) {
	t.Helper()
	step(t, "stopping Postgres", func(ctx context.Context) error { return s.server.Stop(ctx, mode) })
}

// SetConf changes settings and reloads. Those that need a restart wait for Stop and Start.
func (s *PGServer) SetConf(t testing.TB, conf map[string]string) {
	t.Helper()
	step(t, "changing settings", func(ctx context.Context) error { return s.server.SetConf(ctx, conf) })
}

// Standby starts a physical replica of this server, which streams through a slot of its own.
func (s *PGServer) Standby(t testing.TB, options PGOptions) *PGServer {
	t.Helper()
	return ownPostgres(t, func(ctx context.Context) (*server.Postgres, error) { return s.server.Standby(ctx, options.Conf) })
}

// Promote makes a standby a primary and returns when it accepts writes.
func (s *PGServer) Promote(t testing.TB) {
	t.Helper()
	step(t, "promoting the standby", s.server.Promote)
}

// BaseBackup copies the data directory of the running server into a new one, as pg_basebackup would, and returns its path. It goes
// with the server.
func (s *PGServer) BaseBackup(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(s.SocketDir, uniqueName(t))
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	require(t, s.server.BaseBackup(ctx, dir))
	return dir
}
