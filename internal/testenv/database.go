package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/everflag/everflag/internal/testenv/server"
)

// DB is a fresh, empty database that belongs to one test.
type DB struct {
	URL  string // for a superuser
	Name string
	Addr string // host:port of the server, e.g. for Proxy

	admin string // the database from which this one is dropped
	roles []string
}

// Postgres returns a fresh database on the server that all tests of this process share. It is dropped when the test ends, together with its replication
// slots and roles, whoever still holds them.
//
// The creation of a logical slot waits for every transaction that is open anywhere on the server. A test that leaves a transaction open for long
// therefore wants a PostgresServer of its own.
func Postgres(t testing.TB) *DB {
	t.Helper()
	admin, err := sharedPostgres()
	require(t, err)
	return newDB(t, admin)
}

func newDB(t testing.TB, admin string) *DB {
	t.Helper()
	db := &DB{Name: uniqueName(t), admin: admin}
	address, err := url.Parse(admin)
	if err != nil {
		t.Fatalf("reading the address of the test server: %v", err)
	}
	db.Addr = address.Host
	address.Path = "/" + db.Name
	db.URL = address.String()
	step(t, "creating a database", func(ctx context.Context) error {
		return db.do(ctx, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "CREATE DATABASE "+db.Name)
			return err
		})
	})
	t.Cleanup(func() { db.drop(t) })
	return db
}

// uniqueName makes an identifier that needs no quotes and tells which test it belongs to.
func uniqueName(t testing.TB) string {
	legible := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '_'
		}
	}, t.Name())
	return fmt.Sprintf("t_%.36s_%.10s", legible, strings.ToLower(rand.Text()))
}

// drop removes the database, its slots and its roles. The order matters: a slot keeps its database, a database keeps its roles.
func (db *DB) drop(t testing.TB) {
	t.Helper()
	step(t, "dropping the database of the test", func(ctx context.Context) error {
		return db.do(ctx, func(conn *pgx.Conn) error {
			for {
				left, err := dropSlots(ctx, conn, db.Name)
				if err != nil {
					return err
				}
				if left == 0 {
					break
				}
			}
			if _, err := conn.Exec(ctx, "DROP DATABASE "+db.Name+" WITH (FORCE)"); err != nil {
				return err
			}
			for _, role := range db.roles {
				if _, err := conn.Exec(ctx, "DROP ROLE "+role); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// dropSlots terminates the holders of the slots of a database, drops the slots nobody holds and tells how many are left.
func dropSlots(ctx context.Context, conn *pgx.Conn, database string) (left int, err error) {
	const ofThis = " FROM pg_replication_slots WHERE database = $1"
	if err := conn.QueryRow(ctx, "SELECT count(*)"+ofThis, database).Scan(&left); err != nil || left == 0 {
		return left, err
	}
	if _, err := conn.Exec(ctx, "SELECT pg_terminate_backend(active_pid, 1000)"+ofThis+" AND active", database); err != nil {
		return left, err
	}
	_, err = conn.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name)"+ofThis+" AND NOT active", database)
	return left, err
}

func (db *DB) do(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, db.admin)
	if err != nil {
		return err
	}
	return errors.Join(f(conn), conn.Close(ctx))
}

// Conn returns a new connection, closed when the test ends.
func (db *DB) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	var conn *pgx.Conn
	step(t, "connecting to Postgres", func(ctx context.Context) (err error) {
		conn, err = pgx.Connect(ctx, db.URL)
		return err
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
		defer cancel()
		_ = conn.Close(ctx) // the test may have cut or killed the other end
	})
	return conn
}

// Exec runs one statement with arguments, or any number of statements without.
func (db *DB) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	step(t, "running SQL", func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, db.URL)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
		} else {
			_, err = conn.Exec(ctx, sql, args...)
		}
		return errors.Join(err, conn.Close(ctx))
	})
}

// Value returns the single value that a query yields.
func Value[T any](t testing.TB, db *DB, sql string, args ...any) T {
	t.Helper()
	var value T
	step(t, "querying", func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, db.URL)
		if err != nil {
			return err
		}
		return errors.Join(conn.QueryRow(ctx, sql, args...).Scan(&value), conn.Close(ctx))
	})
	return value
}

// Role creates a login role with the given attributes, e.g. "REPLICATION", dropped after the database, and returns its name and its address of the
// database.
func (db *DB) Role(t testing.TB, attributes string) (name, address string) {
	t.Helper()
	name = uniqueName(t)
	step(t, "creating a role", func(ctx context.Context) error {
		return db.do(ctx, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s' %s", name, server.Password, attributes))
			return err
		})
	})
	db.roles = append(db.roles, name)
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatalf("reading the address of the database: %v", err)
	}
	u.User = url.UserPassword(name, server.Password)
	return name, u.String()
}

// checkGivenPostgres tells at once what is wrong with a server that somebody else has set up.
func checkGivenPostgres(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return fmt.Errorf("using TEST_POSTGRES_URL: %w", err)
	}
	defer conn.Close(ctx)
	var level, super string
	if err := conn.QueryRow(ctx, "SELECT current_setting('wal_level'), current_setting('is_superuser')").Scan(&level, &super); err != nil {
		return fmt.Errorf("using TEST_POSTGRES_URL: %w", err)
	}
	if level != "logical" || super != "on" {
		return fmt.Errorf("using TEST_POSTGRES_URL: wal_level is %s and superuser is %s, but the tests need a superuser and wal_level=logical", level, super)
	}
	return nil
}
