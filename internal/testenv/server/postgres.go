package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// User and Password are those of the superuser of every Postgres started here.
const (
	User     = "everflag"
	Password = "everflag-test"
)

const startTimeout = 60 * time.Second

// baseConf suits short lives and logical replication, on few cores and beside other such servers. PostgresConfig.Conf overrides it.
var baseConf = map[string]string{
	"wal_level":             "logical",
	"max_replication_slots": "200",
	"max_wal_senders":       "200",
	"max_connections":       "300",
	"fsync":                 "off", // see "Durability" in the package comment
	"full_page_writes":      "off",
	"autovacuum":            "off", // its transactions would delay the creation of slots
	"shared_buffers":        "64MB",
	"max_wal_size":          "1GB",
	"jit":                   "off",
	"log_checkpoints":       "off",
	"timezone":              "UTC",
	"log_timezone":          "UTC",

	"dynamic_shared_memory_type": "mmap", // files in the data directory: elsewhere they would outlive a server that is killed
}

// PostgresConfig says which server to start.
type PostgresConfig struct {
	Kind    Kind
	Version string            // major version; empty takes the newest found
	Conf    map[string]string // postgresql.conf settings
}

// StopMode is a way to stop Postgres, named as in pg_ctl.
type StopMode string

// The stop modes. Smart waits for clients to leave, fast throws them out and writes a checkpoint, immediate dies and recovers at the next start.
const (
	Smart     StopMode = "smart"
	Fast      StopMode = "fast"
	Immediate StopMode = "immediate"
)

// Postgres is a private server. Its address stays the same over any number of stops and starts. Its methods are for one goroutine at a time.
type Postgres struct {
	Addr      string // host:port
	Version   string // as the server names it, e.g. "15.14"
	DataDir   string // empty in a container
	SocketDir string // directory of the Unix socket; empty in a container

	power
	bin   string
	owner *owner
}

// StartPostgres starts a server and returns when it accepts connections.
func StartPostgres(ctx context.Context, c PostgresConfig) (*Postgres, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("the server did not become ready in time"))
	defer cancel()
	conf := maps.Clone(baseConf)
	maps.Copy(conf, c.Conf)
	p, err := firstOf(c.Kind,
		func() (*Postgres, error) { return newContainerPostgres(ctx, c.Version, conf) },
		func() (*Postgres, error) { return newLocalPostgres(ctx, c.Version, conf) })
	if err != nil {
		return nil, err
	}
	return p, p.Start(ctx)
}

// newLocalPostgres makes a server of local binaries, not yet started.
func newLocalPostgres(ctx context.Context, version string, conf map[string]string) (*Postgres, error) {
	p, err := homeless(version)
	if err != nil {
		return nil, err
	}
	if err := newDataDir(ctx, p.bin, p.Version, p.DataDir, p.owner); err != nil {
		return nil, err
	}
	return p, p.writeConf(conf)
}

// homeless finds the binaries, the user, the port and the place of a server that has no data directory yet.
func homeless(version string) (*Postgres, error) {
	bin, full, err := findPostgres(version)
	if err != nil {
		return nil, err
	}
	who, err := unprivileged()
	if err != nil {
		return nil, err
	}
	ws, err := use()
	if err != nil {
		return nil, err
	}
	home, err := ws.dir("pg-", who)
	if err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	p := &Postgres{
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Version: full, DataDir: filepath.Join(home, "data"), SocketDir: home, bin: bin, owner: who,
	}
	p.machine = &process{
		argv: []string{filepath.Join(bin, "postgres"), "-D", p.DataDir}, owner: who, dir: home, logFile: filepath.Join(home, "log"), polite: ending{"QUIT", syscall.SIGQUIT}, ws: ws,
	}
	return p, nil
}

// writeConf appends to postgresql.conf, where the last mention of a setting wins, and lets replication connections in.
func (p *Postgres) writeConf(conf map[string]string) error {
	host, port, err := net.SplitHostPort(p.Addr)
	if err != nil {
		return err
	}
	text := new(strings.Builder)
	for name, value := range conf {
		fmt.Fprintf(text, "%s = '%s'\n", name, strings.ReplaceAll(value, "'", "''"))
	}
	fmt.Fprintf(text, "listen_addresses = '%s'\nport = %s\nunix_socket_directories = '%s'\n", host, port, p.SocketDir)
	file, err := os.OpenFile(filepath.Join(p.DataDir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text.String())
	return errors.Join(err, file.Close())
}

// URL returns the address of a database for the superuser.
func (p *Postgres) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(User, Password), Host: p.Addr, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Start starts a stopped server and returns when it accepts connections.
func (p *Postgres) Start(ctx context.Context) error {
	if err := p.machine.start(ctx); err != nil {
		return err
	}
	return poll(ctx, "waiting for Postgres to accept connections", func() error {
		if p.machine.ended() {
			return &finalError{fmt.Errorf("starting Postgres %s: it ended at once:\n%s", p.Version, tail(p.Log(ctx)))}
		}
		return p.Do(ctx, func(*pgx.Conn) error { return nil })
	})
}

// Do runs f with a connection of the superuser to the database postgres.
func (p *Postgres) Do(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, p.URL("postgres"))
	if err != nil {
		return err
	}
	return errors.Join(f(conn), conn.Close(ctx))
}

// Stop ends the server in one of the ways of pg_ctl and returns when it has ended.
func (p *Postgres) Stop(ctx context.Context, mode StopMode) error {
	signals := map[StopMode]syscall.Signal{Smart: syscall.SIGTERM, Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT}
	s, ok := signals[mode]
	if !ok {
		return fmt.Errorf("stopping Postgres: unknown mode %q", mode)
	}
	if err := p.machine.signal(ctx, s); err != nil {
		return fmt.Errorf("stopping Postgres: %w", err)
	}
	return p.machine.wait(ctx)
}

// SetConf changes settings with ALTER SYSTEM and reloads. Settings that need a restart wait for one.
func (p *Postgres) SetConf(ctx context.Context, conf map[string]string) error {
	return p.Do(ctx, func(conn *pgx.Conn) error {
		for name, value := range conf {
			statement := fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", pgx.Identifier{name}.Sanitize(), strings.ReplaceAll(value, "'", "''"))
			if _, err := conn.Exec(ctx, statement); err != nil {
				return fmt.Errorf("setting %q: %w", name, err)
			}
		}
		_, err := conn.Exec(ctx, "SELECT pg_reload_conf()")
		return err
	})
}

// Close ends the server in whatever state it is and removes its files.
func (p *Postgres) Close(ctx context.Context) error {
	if err := p.machine.remove(ctx); err != nil {
		return fmt.Errorf("removing Postgres: %w", err)
	}
	if p.SocketDir == "" {
		return nil
	}
	removeSharedMemory(p.DataDir)
	return os.RemoveAll(p.SocketDir)
}
