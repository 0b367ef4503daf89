package soak

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/everflag/everflag/internal/oracle"
	"github.com/everflag/everflag/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// settle is how long the cache may take to become equal to its source once everything is well again.
const settle = 30 * time.Second

// TestModel runs random programs of transactions over all watched tables through the real replicator, with kills, cuts and flushes, and judges every state
// of the cache: see the package comment. EVERFLAG_MODEL_TIME says for how long (G1–G4; F5–F8, F29, F33–F36, F39–F49, F55, F56).
func TestModel(t *testing.T) { // F60
	t.Parallel()
	s := newStage(t)
	until := time.Now().Add(s.duration)
	var failed atomic.Bool
	var programs, transactions, aborted, looks int
	set(t, "rapid.checks", "100000")
	set(t, "rapid.nofailfile", "true") // the same dice need not meet the same moments
	rapid.Check(t, func(r *rapid.T) {
		if time.Now().After(until) && !failed.Load() {
			return
		}
		p := s.program(r)
		defer func() {
			if r.Failed() {
				failed.Store(true)
			}
			p.end()
			programs, transactions, aborted, looks = programs+1, transactions+p.source.committed, aborted+p.source.aborted, looks+p.watcher.looks
		}()
		p.actions()
	})
	t.Logf("%d programs, %d transactions and %d that failed, %d looks at the cache", programs, transactions, aborted, looks)
}

// stage is what all programs share.
type stage struct {
	t        *testing.T
	duration time.Duration
	pg       *testenv.PGServer
	admin    *pgx.Conn
	space    *testenv.KeySpace
	cache    *redis.Client
	toPG     *testenv.Flaky
	toRedis  *testenv.Flaky
	count    int
	told     bool // the first failure has been
}

const template = "everflag_template"

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, duration: duration(t, "EVERFLAG_MODEL_TIME", 10*time.Second)}
	s.pg = testenv.PostgresServer(t, testenv.PGOptions{Conf: map[string]string{"max_prepared_transactions": "10", "wal_sender_timeout": "5s", "log_min_messages": "panic"}})
	s.space = testenv.Redis(t)
	s.cache = s.space.Client(t)
	s.toPG, s.toRedis = testenv.Proxy(t, s.pg.Addr), testenv.Proxy(t, s.space.Addr)
	s.admin = s.connect(s.pg.URL("postgres"))
	s.do("CREATE DATABASE " + template)
	db := s.connect(s.pg.URL(template))
	// With such a target every column of a wide row goes out of line, and stays unsent when others change.
	for _, sql := range []string{testenv.Schema("posthog_2026.sql"), "ALTER TABLE posthog_team SET (toast_tuple_target = 128)"} {
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func duration(t *testing.T, variable string, otherwise time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return d
}

func (s *stage) connect(url string) *pgx.Conn {
	s.t.Helper()
	db, err := pgx.Connect(s.t.Context(), url)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = db.Close(context.Background()) }) // closed already or with its server
	return db
}

func (s *stage) do(sql string, args ...any) {
	s.t.Helper()
	if _, err := s.admin.Exec(s.t.Context(), sql, args...); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

// replicator is a running replicator.
type replicator interface {
	stop() error
	logs() string
}

// program is one run.
type program struct {
	*rapid.T
	*stage
	author  *author
	url     string
	slot    string
	name    string
	source  *source
	watcher *watcher
	tune    tuning
	real    bool // the replicator is the real program

	running replicator // nil while there is none
	broken  bool       // the network is
	lost    bool       // bytes were swallowed: connections are out of step
	earlier strings.Builder

	watching sync.WaitGroup
	cancel   context.CancelFunc
}

func (s *stage) program(r *rapid.T) *program {
	s.count++
	p := &program{T: r, stage: s, name: fmt.Sprint("program_", s.count), slot: fmt.Sprint("slot_", s.count)}
	roll := func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(r, label) }
	p.author = &author{dice: roll}
	p.tune = tuning{
		txBytes: []int{8 << 20, 30 << 10}[roll("max tx", 2)], queueBytes: []int{32 << 20, 16 << 10}[roll("queue", 2)],
		batchBytes: []int{1 << 20, 1}[roll("batch bytes", 2)], batchTxs: []int{2000, 1, 3}[roll("batch txs", 3)],
	}
	p.real = p.author.chance("real program", 8)
	s.do("CREATE DATABASE " + p.name + " TEMPLATE " + template)
	p.url = s.pg.URL(p.name)
	s.cache.FlushDB(s.t.Context())
	p.source = &source{url: p.url, keep: true}
	if err := p.source.connect(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	_, must, err := oracle.Expected(s.t.Context(), p.source.db, oracle.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	h := newHistory(must)
	p.source.history = h
	if err := h.end(s.t.Context(), p.source.db); err != nil {
		s.t.Fatal(err)
	}
	p.watcher = &watcher{history: h, cache: s.cache, prefix: s.space.Prefix, pg: p.url, slot: p.slot, teams: maxTeam}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.watching.Go(func() { p.watcher.run(ctx) })
	return p
}

// end leaves nothing behind. It is called after a failure, too.
func (p *program) end() {
	p.cancel()
	p.watching.Wait()
	p.kill()
	p.toPG.Restore()
	p.toRedis.Restore()
	if p.source.prepared != "" {
		_ = p.source.decide(p.stage.t.Context(), rollback) // else the database cannot be dropped, which says so
	}
	p.source.close()
	for {
		var left int
		if err := p.admin.QueryRow(p.stage.t.Context(), `SELECT count(*) FROM pg_replication_slots s
			WHERE database = $1 AND (active AND pg_terminate_backend(active_pid, 1000) IS NOT NULL OR NOT active AND pg_drop_replication_slot(slot_name) IS NOT NULL)`,
			p.name).Scan(&left); err != nil {
			p.stage.t.Fatal(err)
		}
		if left == 0 {
			break
		}
	}
	p.do("DROP DATABASE " + p.name + " WITH (FORCE)")
}
