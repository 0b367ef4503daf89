// Package redisconn guarantees that every program reads the address of Redis in the same way, and that no error it returns shows a password.
package redisconn

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// The client library writes lines of its own to standard error, one per failed dial. The errors reach the callers, who say it once and in their form.
func init() { logging.Disable() }

// Config says how to reach Redis. Errors name URL and CAFile by the settings of both programs, --redis-url and --redis-ca.
type Config struct {
	// URL is one of
	//
	//	redis://[user:password@]host[:port][/db]             rediss:// is the same with TLS
	//	unix://[user:password@]/path/to/socket[?db=n]
	//	redis+sentinel://[user:password@]host[:port],…/master[/db][?sentinel_user=…&sentinel_password=…]
	//	redis+cluster://[user:password@]host[:port],…        rediss+sentinel and rediss+cluster are the same with TLS
	//
	// User and password are percent-encoded. For the first forms db may also stand in the query.
	URL string

	// ReadURL returns URL as it is now; user and password are taken from it for every connection. Defaults to none: they do not change.
	ReadURL func() (string, error)

	// CAFile holds certificates to trust instead of the system's. Defaults to none.
	CAFile string

	// ClientName shows in CLIENT LIST.
	ClientName string

	// ReadTimeout bounds the wait for a reply where the context does not. Defaults to 15 s.
	ReadTimeout time.Duration

	// DialTimeout bounds the wait for a connection. Defaults to 5 s.
	DialTimeout time.Duration

	// PoolSize is the number of connections per server. Defaults to 4.
	PoolSize int
}

// Open returns a client. It does no I/O but reading CAFile. The client never retries by itself: whether a command may be sent again is the caller's
// knowledge. Contexts bound its calls.
func Open(config Config) (redis.UniversalClient, error) {
	address, err := parse(config.URL)
	if err != nil {
		return nil, fmt.Errorf("--redis-url: %w", err)
	}
	tlsConfig, err := address.tls(config)
	if err != nil {
		return nil, err
	}
	config.ReadTimeout = cmp.Or(config.ReadTimeout, 15*time.Second)
	config.DialTimeout = cmp.Or(config.DialTimeout, 5*time.Second)
	config.PoolSize = cmp.Or(config.PoolSize, 4)
	switch address.kind {
	case kindSentinel:
		return redis.NewFailoverClient(address.failover(config, tlsConfig)), nil
	case kindCluster:
		return redis.NewClusterClient(address.cluster(config, tlsConfig)), nil
	default:
		return redis.NewClient(address.single(config, tlsConfig)), nil
	}
}

const noRetries = -1

// credentials reads user and password for a connection; nil if they do not change.
func (c Config) credentials() func(context.Context) (user, password string, err error) {
	if c.ReadURL == nil {
		return nil
	}
	return func(context.Context) (user, password string, err error) {
		text, err := c.ReadURL()
		if err != nil {
			return "", "", fmt.Errorf("--redis-url: %w", err)
		}
		a, err := parse(text)
		if err != nil {
			return "", "", fmt.Errorf("--redis-url: %w", err)
		}
		return a.user, a.password, nil
	}
}

func (a *address) single(c Config, t *tls.Config) *redis.Options {
	return &redis.Options{
		Network: a.network, Addr: a.hosts[0], Username: a.user, Password: a.password, DB: a.db, ClientName: c.ClientName, TLSConfig: t,
		MaxRetries: noRetries, Dialer: dialer(c.DialTimeout, t), DialTimeout: c.DialTimeout, DialerRetries: 1,
		ReadTimeout: c.ReadTimeout, WriteTimeout: c.ReadTimeout, ContextTimeoutEnabled: true,
		CredentialsProviderContext: c.credentials(),
		PoolSize:                   c.PoolSize, DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func (a *address) failover(c Config, t *tls.Config) *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName: a.master, SentinelAddrs: a.hosts, SentinelUsername: a.sentinelUser, SentinelPassword: a.sentinelPassword,
		Username: a.user, Password: a.password, DB: a.db, ClientName: c.ClientName, TLSConfig: t,
		MaxRetries: noRetries, Dialer: dialer(c.DialTimeout, t), DialTimeout: c.DialTimeout, DialerRetries: 1,
		ReadTimeout: c.ReadTimeout, WriteTimeout: c.ReadTimeout, ContextTimeoutEnabled: true,
		CredentialsProviderContext: c.credentials(),
		PoolSize:                   c.PoolSize, DisableIdentity: true,
	}
}

// cluster follows redirections, which say that a command was not done; all keys share a slot, so there are none but after a resharding.
func (a *address) cluster(c Config, t *tls.Config) *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs: a.hosts, Username: a.user, Password: a.password, ClientName: c.ClientName, TLSConfig: t,
		MaxRedirects: 3, MaxRetries: noRetries, Dialer: dialer(c.DialTimeout, t), DialTimeout: c.DialTimeout, DialerRetries: 1,
		ReadTimeout: c.ReadTimeout, WriteTimeout: c.ReadTimeout, ContextTimeoutEnabled: true, PoolSize: c.PoolSize, DisableIdentity: true,
		CredentialsProviderContext: c.credentials(),
		MaintNotificationsConfig:   &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func (a *address) tls(c Config) (*tls.Config, error) {
	if !a.secure {
		if c.CAFile != "" {
			return nil, errors.New("--redis-ca: is set, but --redis-url does not ask for TLS: use rediss://")
		}
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.kind == kindSingle {
		t.ServerName, _, _ = net.SplitHostPort(a.hosts[0])
	}
	if c.CAFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("--redis-ca: %w", err)
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--redis-ca: %q holds no certificate in PEM form", c.CAFile)
	}
	return t, nil
}

type kind int

const (
	kindSingle kind = iota
	kindSentinel
	kindCluster
)

// address is a parsed URL.
type address struct {
	kind                           kind
	secure                         bool
	network                        string
	hosts                          []string // host:port, or one path
	user, password                 string
	db                             int
	master                         string
	sentinelUser, sentinelPassword string
}

// schemes are all forms; the text of the error for others names them.
var schemes = map[string]address{
	"redis": {network: "tcp"}, "rediss": {network: "tcp", secure: true}, "unix": {network: "unix"},
	"redis+sentinel": {kind: kindSentinel}, "rediss+sentinel": {kind: kindSentinel, secure: true},
	"redis+cluster": {kind: kindCluster}, "rediss+cluster": {kind: kindCluster, secure: true},
}

// parse reads a URL. net/url does not take several hosts, and its errors repeat the text, password included; so only the parts go through it.
func parse(text string) (*address, error) {
	if text == "" {
		return nil, errors.New("is not set; it is like redis://localhost:6379")
	}
	scheme, rest, found := strings.Cut(text, "://")
	a, known := schemes[scheme]
	if !found || !known {
		return nil, errors.New("want redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// at the start")
	}
	rest, rawQuery, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if err := a.credentials(authority[:at]); err != nil {
			return nil, err
		}
		authority = authority[at+1:]
	}
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, errors.New("the part after the question mark is not percent-encoded properly")
	}
	if err := a.place(authority, path); err != nil {
		return nil, err
	}
	return &a, a.query(query)
}

func (a *address) credentials(text string) error {
	user, password, _ := strings.Cut(text, ":")
	var errUser, errPassword error
	a.user, errUser = url.PathUnescape(user)
	a.password, errPassword = url.PathUnescape(password)
	if errUser != nil || errPassword != nil {
		return errors.New("user or password is not percent-encoded properly: write % as %25")
	}
	return nil
}

// place reads hosts and path.
func (a *address) place(authority, path string) error {
	if a.network == "unix" {
		if authority != "" || path == "" {
			return errors.New("want unix:///path/to/socket, with three slashes")
		}
		a.hosts = []string{"/" + path}
		return nil
	}
	port := "6379"
	if a.kind == kindSentinel {
		port = "26379"
	}
	for host := range strings.SplitSeq(authority, ",") {
		if a.kind == kindSingle && host == "" && len(a.hosts) == 0 {
			host = "localhost"
		}
		withPort, err := hostPort(host, port)
		if err != nil {
			return err
		}
		a.hosts = append(a.hosts, withPort)
	}
	if a.kind == kindSingle && len(a.hosts) > 1 {
		return errors.New("several hosts need redis+sentinel:// or redis+cluster://")
	}
	if a.kind == kindCluster && path != "" {
		return errors.New("a cluster has no databases: leave out what follows the hosts")
	}
	if a.kind == kindSentinel {
		if a.master, path, _ = strings.Cut(path, "/"); a.master == "" {
			return errors.New("want the name of the master after the hosts: redis+sentinel://host1,host2/master")
		}
	}
	return a.database(path)
}

func hostPort(host, defaultPort string) (string, error) {
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") || !strings.Contains(host, ":") {
		host = net.JoinHostPort(strings.Trim(host, "[]"), defaultPort)
	}
	name, port, err := net.SplitHostPort(host)
	if n, errPort := strconv.ParseUint(port, 10, 16); err != nil || errPort != nil || n == 0 || name == "" {
		return "", errors.New("want host or host:port, several separated by commas")
	}
	return host, nil
}

func (a *address) database(text string) error {
	if text == "" {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return fmt.Errorf("the database is a number, not %q", text)
	}
	a.db = int(n)
	return nil
}

func (a *address) query(query url.Values) error {
	for name, values := range query {
		value := values[0]
		switch {
		case name == "db" && a.kind != kindCluster:
			if err := a.database(value); err != nil {
				return err
			}
		case name == "sentinel_user" && a.kind == kindSentinel:
			a.sentinelUser = value
		case name == "sentinel_password" && a.kind == kindSentinel:
			a.sentinelPassword = value
		default:
			return fmt.Errorf("the option %q is not known for this form", name)
		}
	}
	return nil
}
