package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/oracle"
	"github.com/everflag/everflag/internal/redisconn"
	"github.com/everflag/everflag/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// settle is how long a cache may take to become equal to its source, on a busy machine.
const settle = 20 * time.Second

// large chooses the size of a test.
func large() bool { return os.Getenv("EVERFLAG_LARGE") != "" }

const (
	teams  = 3
	flags  = 12
	token  = "phc_test_1"
	steady = "steady" // a flag of the first team that is on and stays on
)

// scene is a source, a cache, and the settings that join them.
type scene struct {
	t        *testing.T
	source   *testenv.DB
	postgres string // the source, for the test's own statements
	redis    string // the cache, for the programs
	env      []string
	cache    redis.Cmdable
	db       *pgx.Conn
}

// newScene fills a database. The programs reach it as postgres, and the cache as redisURL.
func newScene(t *testing.T, db *testenv.DB, redisURL string, cache redis.Cmdable) *scene {
	t.Helper()
	testenv.LoadSchema(t, db, testenv.Schema2026)
	for team := 1; team <= teams; team++ {
		testenv.AddTeam(t, db, team, nil)
	}
	testenv.AddFlag(t, db, 1, steady, `{"groups":[{"rollout_percentage":100}]}`, nil)
	for flag := range flags {
		testenv.AddFlag(t, db, 1+flag%teams, fmt.Sprint("flag-", flag), `{"groups":[{"rollout_percentage":50}]}`, nil)
	}
	s := &scene{t: t, source: db, postgres: db.URL, redis: redisURL, cache: cache}
	t.Cleanup(s.hangUp)
	return s
}

// plain is a scene on an own Postgres and an own Redis.
func plain(t *testing.T, options testenv.PGOptions, redisOptions testenv.RedisOptions) (*scene, *testenv.PGServer, *testenv.RedisInstance) {
	t.Helper()
	pg, rd := testenv.PostgresServer(t, options), testenv.RedisServer(t, redisOptions)
	return newScene(t, pg.Database(t), rd.URL, rd.Client(t)), pg, rd
}

func (s *scene) hangUp() {
	if s.db != nil {
		_ = s.db.Close(context.WithoutCancel(s.t.Context())) // the server may be gone
		s.db = nil
	}
}

// client opens a client for every form of address.
func client(t *testing.T, url, ca string) redis.UniversalClient {
	t.Helper()
	c, err := redisconn.Open(redisconn.Config{URL: url, CAFile: ca, ReadTimeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // its server may be gone
	return c
}

// connect returns a connection to the source, a new one if the former broke.
func (s *scene) connect(ctx context.Context) (*pgx.Conn, error) {
	if s.db != nil && !s.db.IsClosed() {
		return s.db, nil
	}
	var err error
	s.db, err = pgx.Connect(ctx, s.postgres)
	return s.db, err
}

// exec runs a statement, as soon as the source takes it.
func (s *scene) exec(sql string, args ...any) {
	s.t.Helper()
	testenv.Eventually(s.t, settle, func() error {
		db, err := s.connect(s.t.Context())
		if err == nil {
			_, err = db.Exec(s.t.Context(), sql, args...)
		}
		return err
	})
}

// value asks the source for one value.
func value[T any](s *scene, sql string, args ...any) T {
	s.t.Helper()
	var v T
	testenv.Eventually(s.t, settle, func() error {
		db, err := s.connect(s.t.Context())
		if err == nil {
			err = db.QueryRow(s.t.Context(), sql, args...).Scan(&v)
		}
		return err
	})
	return v
}

// lsn asks the source for a position.
func (s *scene) lsn(sql string) change.LSN {
	s.t.Helper()
	at, err := change.ParseLSN(value[string](s, sql))
	if err != nil {
		s.t.Fatal(err)
	}
	return at
}

const confirmed = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'everflag'"

// equal returns nil if the cache is complete and equal to the tables.
func (s *scene) equal() error {
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	meta, err := s.cache.HGetAll(ctx, "{everflag}:meta").Result()
	if err != nil || meta["complete"] != "1" || meta["reconcile"] != "" {
		return fmt.Errorf("meta is %v (%w)", meta, err)
	}
	db, err := s.connect(ctx)
	if err != nil {
		return err
	}
	lines, err := oracle.Differences(ctx, db, s.cache, oracle.Options{})
	if err != nil || len(lines) == 0 {
		return err
	}
	return fmt.Errorf("%d differences: %s", len(lines), strings.Join(lines[:min(5, len(lines))], "; "))
}

func (s *scene) waitEqual() {
	s.t.Helper()
	testenv.Eventually(s.t, settle, s.equal)
}

// arrives commits one more change and waits until the cache has it.
func (s *scene) arrives() {
	s.t.Helper()
	s.exec("UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-0'")
	s.waitEqual()
}

// replicator is a running replicator.
type replicator struct {
	*testenv.Program
	t     *testing.T
	admin string
}

// replicator starts one. Later settings count.
func (s *scene) replicator(more ...string) *replicator {
	s.t.Helper()
	r := &replicator{t: s.t, admin: "127.0.0.1:" + testenv.FreePort(s.t)}
	env := append([]string{
		"REPLICATOR_REDIS_URL=" + s.redis, "REPLICATOR_ADMIN_ADDR=" + r.admin, "REPLICATOR_LOG_FORMAT=json",
	}, s.env...)
	env = append(env, more...)
	if !slices.ContainsFunc(env, func(setting string) bool { return strings.HasPrefix(setting, "REPLICATOR_POSTGRES_URL") }) {
		env = append(env, "REPLICATOR_POSTGRES_URL="+s.postgres)
	}
	r.Program = testenv.Run(s.t, testenv.Build(s.t, "cmd/replicator"), env)
	return r
}

// status asks it; the zero status if it does not answer.
type status struct {
	Role       string
	Ready      bool
	LastError  string `json:"last_error"`
	CacheError string `json:"cache_error"`
	Released   bool
	Reconciled *struct{ Reason string }
}

func (r *replicator) status() (st status) {
	text, err := fetch(r.t.Context(), "http://"+r.admin+"/status")
	if err != nil || json.Unmarshal([]byte(text), &st) != nil {
		return status{}
	}
	return st
}

// is waits for a role.
func (r *replicator) is(role string) {
	r.t.Helper()
	testenv.Eventually(r.t, settle, func() error {
		if now := r.status().Role; now != role {
			return fmt.Errorf("it is %q, not %q", now, role)
		}
		return nil
	})
}

// said are the lines of its log that contain all of the texts.
func (r *replicator) said(texts ...string) []string {
	var found []string
next:
	for _, line := range r.Logs() {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue next
			}
		}
		found = append(found, line)
	}
	return found
}

// reconciles are the reconciles that it has completed.
func (r *replicator) reconciles() int { return len(r.said(`"reconciled"`)) }

// reconciledFor waits for a reconcile with this reason.
func (r *replicator) reconciledFor(reason string) {
	r.t.Helper()
	testenv.Eventually(r.t, settle, func() error {
		if len(r.said(`"reconciled"`, reason)) == 0 {
			return fmt.Errorf("no reconcile names %q", reason)
		}
		return nil
	})
}

// command runs a command of the replicator's, which may ask a running one.
func (s *scene) command(r *replicator, name string, arguments ...string) (output string, code int) {
	s.t.Helper()
	env := []string{"REPLICATOR_POSTGRES_URL=" + s.postgres, "REPLICATOR_REDIS_URL=" + s.redis, "REPLICATOR_ADMIN_URL=http://" + r.admin}
	p := testenv.Run(s.t, testenv.Build(s.t, "cmd/replicator"), append(env, s.env...), append([]string{name}, arguments...)...)
	code = p.Wait(s.t)
	return p.Stdout() + strings.Join(p.Logs(), "\n"), code
}

// stop ends it in order.
func (r *replicator) stop() {
	r.t.Helper()
	r.Signal(r.t, 15)
	if code := r.Wait(r.t); code != 0 {
		r.t.Errorf("exit code %d after SIGTERM", code)
	}
}

var httpClient = &http.Client{Timeout: 10 * time.Second}

func fetch(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	return do(request)
}

// metric is the sum of a metric over its labels.
func (r *replicator) metric(name string) (sum float64) {
	r.t.Helper()
	text, err := fetch(r.t.Context(), "http://"+r.admin+"/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.SplitSeq(text, "\n") {
		series, number, found := strings.Cut(line, " ")
		if base, _, _ := strings.Cut(series, "{"); !found || base != name {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(number, &v); err != nil {
			r.t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// errNotYet keeps a test waiting until a time.
var errNotYet = errors.New("too early to tell")

// pass lets time pass, in which nothing must happen.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	until := time.Now().Add(d)
	testenv.Eventually(t, d+settle, func() error {
		if time.Now().Before(until) {
			return errNotYet
		}
		return nil
	})
}
