package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/everflag/everflag/internal/change"
)

const (
	connectTimeout = 10 * time.Second
	queryTimeout   = 30 * time.Second

	outputPlugin = "pgoutput"
)

// sessionSettings hold on every connection, so that a copy and the stream print the same bytes for the same value (F53), and so that no default of the
// role or the database ends what we wait for (F68). Names are resolved in pg_catalog only: what is ours is always qualified.
var sessionSettings = map[string]string{
	"client_encoding":                     "UTF8",
	"DateStyle":                           "ISO, MDY",
	"TimeZone":                            "UTC",
	"IntervalStyle":                       "postgres",
	"extra_float_digits":                  "3",
	"bytea_output":                        "hex",
	"search_path":                         "pg_catalog",
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
	"default_transaction_read_only":       "off",
}

// errInRecovery is what a server answers to be no primary. Failovers pass, so it is waited for.
var errInRecovery = errors.New("the server is a standby: replication starts at the primary")

// parseURL reads the address anew for every attempt, so that names are resolved and files with passwords and certificates are read again (F24, F27).
func (c *Config) parseURL() (*pgx.ConnConfig, error) {
	address := c.PostgresURL
	if c.ReadURL != nil {
		var err error
		if address, err = c.ReadURL(); err != nil { // it may be written at this moment
			return nil, fmt.Errorf("reading --postgres-url: %w", err)
		}
	}
	parsed, err := pgx.ParseConfig(address)
	if err != nil && c.ReadURL != nil {
		return nil, fmt.Errorf("reading --postgres-url: %w", err)
	}
	if err != nil {
		return nil, refuse("reading --postgres-url: %w", err)
	}
	for name, value := range sessionSettings {
		parsed.RuntimeParams[name] = value
	}
	parsed.RuntimeParams["application_name"] = c.ApplicationName
	parsed.AfterConnect = noTransactionTimeout
	parsed.ConnectTimeout = connectTimeout
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	parsed.DialFunc = dialer.DialContext
	if parsed.ValidateConnect == nil { // the address may set target_session_attrs; of several hosts, ours is the primary
		parsed.ValidateConnect = refuseStandby
	}
	return parsed, nil
}

func refuseStandby(ctx context.Context, conn *pgconn.PgConn) error {
	value, err := simpleValue(ctx, conn, "SELECT pg_is_in_recovery()")
	if err != nil {
		return err
	}
	if value != "f" {
		return errInRecovery
	}
	return nil
}

// noTransactionTimeout switches off what would end a copy (F68) and came with 17: older servers refuse a connection that names it.
func noTransactionTimeout(ctx context.Context, conn *pgconn.PgConn) error {
	_, err := conn.Exec(ctx, "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'").ReadAll()
	return err
}

// connect opens an ordinary connection.
func (c *Config) connect(ctx context.Context) (*pgx.Conn, error) {
	parsed, err := c.parseURL()
	if err != nil {
		return nil, err
	}
	ctx, cancel := step(ctx, connectTimeout, "connecting to Postgres")
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, parsed)
	if err != nil {
		return nil, connectError(err)
	}
	return conn, nil
}

// connectReplication opens a connection that understands the replication commands. It cannot use the extended protocol.
func (c *Config) connectReplication(ctx context.Context) (*pgconn.PgConn, error) {
	parsed, err := c.parseURL()
	if err != nil {
		return nil, err
	}
	parsed.RuntimeParams["replication"] = "database"
	ctx, cancel := step(ctx, connectTimeout, "connecting to Postgres for replication")
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, &parsed.Config)
	if hasState(err, stateInsufficientRights) { // each major says it in words of its own
		return nil, fmt.Errorf("the role needs the attribute REPLICATION: %w", connectError(err))
	}
	if err != nil {
		return nil, connectError(err)
	}
	return conn, nil
}

// connectError says what was tried. pgx joins the errors of all addresses of a host, most of them about the same thing: the first that tells more than
// that nobody listens stands for all.
func connectError(err error) error {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Errorf("connecting to Postgres: %w", explained(pgErr))
	}
	if errors.Is(err, errInRecovery) {
		return fmt.Errorf("connecting to Postgres: %w", errInRecovery)
	}
	if opErr, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("connecting to Postgres: %w", opErr)
	}
	return fmt.Errorf("connecting to Postgres: %w", err)
}

// closeConn ends a connection in an orderly way, but never waits for long: the other end may be gone.
func closeConn(conn interface{ Close(context.Context) error }) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // the work is over, and the caller's context with it
	defer cancel()
	_ = conn.Close(ctx) // the connection is of no use any more, whatever it answers
}

// step bounds one step of work and names it in the error if it takes longer.
func step(ctx context.Context, limit time.Duration, name string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s took more than %s", name, limit))
}

// simpleRow runs one command on a replication connection and returns its row.
func simpleRow(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]byte, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) == 0 || len(results[len(results)-1].Rows) != 1 {
		return nil, fmt.Errorf("the server did not answer %q with one row", sql)
	}
	return results[len(results)-1].Rows[0], nil
}

func simpleValue(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	row, err := simpleRow(ctx, conn, sql)
	if err != nil {
		return "", err
	}
	return string(row[0]), nil
}

// server is what is asked once per connection.
type server struct {
	version         int // as server_version_num
	systemID        string
	database        string
	databaseOID     uint32
	postmasterStart time.Time
	walLevel        string
	syncNames       string // synchronous_standby_names
	keepSize        string // max_slot_wal_keep_size
	senderTimeout   time.Duration
}

func readServer(ctx context.Context, conn *pgx.Conn) (server, error) {
	ctx, cancel := step(ctx, queryTimeout, "reading the server's settings")
	defer cancel()
	var s server
	var timeout int64
	err := conn.QueryRow(ctx, `
		SELECT current_setting('server_version_num')::int, (SELECT system_identifier::text FROM pg_control_system()),
			d.datname, d.oid, pg_postmaster_start_time(), current_setting('wal_level'), current_setting('synchronous_standby_names'),
			current_setting('max_slot_wal_keep_size'), (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_sender_timeout')
		FROM pg_database d WHERE d.datname = current_database()`,
	).Scan(&s.version, &s.systemID, &s.database, &s.databaseOID, &s.postmasterStart, &s.walLevel, &s.syncNames, &s.keepSize, &timeout)
	s.senderTimeout = time.Duration(timeout) * time.Millisecond
	if err != nil {
		return s, fmt.Errorf("reading the server's settings: %w", err)
	}
	return s, nil
}

// same reports a connection that leads elsewhere: a pooler, a load balancer or a failover may be in between (F25).
func (s *server) same(ctx context.Context, conn *pgconn.PgConn) error {
	ctx, cancel := step(ctx, queryTimeout, "identifying the server")
	defer cancel()
	row, err := simpleRow(ctx, conn,
		"SELECT (SELECT system_identifier FROM pg_control_system()), (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint")
	if err != nil {
		return fmt.Errorf("identifying the server: %w", err)
	}
	switch {
	case string(row[0]) != s.systemID:
		return fmt.Errorf("connections lead to different clusters, %s and %s: "+elsewhereRemedy, s.systemID, row[0])
	case string(row[1]) != fmt.Sprint(s.postmasterStart.UnixMicro()):
		return errors.New("connections lead to different servers of one cluster: " + elsewhereRemedy)
	}
	return nil
}

const elsewhereRemedy = "let --postgres-url lead to the primary itself, without a pooler or load balancer in between"

// oldestVersion is the oldest Postgres that is supported.
const oldestVersion = 140000

// usable reports what makes replication from the server impossible.
func (s *server) usable(applicationName string) error {
	switch {
	case s.version < oldestVersion:
		return refuse("Postgres %d is too old: 14 or newer is needed", s.version/10000)
	case s.walLevel != "logical":
		return refuse("wal_level is %q: set wal_level = logical in postgresql.conf and restart Postgres", s.walLevel)
	case namesStandby(s.syncNames, applicationName):
		return refuseSynchronous(s.syncNames, applicationName)
	}
	return nil
}

// refuseSynchronous refuses to be a synchronous standby: the user's commits would wait for the cache, and count as replicated (F79).
func refuseSynchronous(setting, applicationName string) error {
	return refuse("synchronous_standby_names is %q, which makes commits wait for this program as for a standby: name the real standbys there, "+
		"without * and without %q", setting, applicationName)
}

// namesStandby reports whether synchronous_standby_names covers the application name (F79).
func namesStandby(setting, applicationName string) bool {
	list := setting
	if open := strings.IndexByte(setting, '('); open >= 0 {
		list = strings.TrimSuffix(strings.TrimSpace(setting[open+1:]), ")")
	}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if name == "*" || strings.EqualFold(strings.ReplaceAll(strings.Trim(name, `"`), `""`, `"`), applicationName) {
			return true
		}
	}
	return false
}

// walEnd is the end of the log. Nothing that the server sends can lie beyond it.
func walEnd(ctx context.Context, conn *pgx.Conn) (change.LSN, error) {
	ctx, cancel := step(ctx, queryTimeout, "reading the end of the log")
	defer cancel()
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		return 0, fmt.Errorf("reading the end of the log: %w", err)
	}
	return change.ParseLSN(text)
}
