package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/oracle"
	"github.com/everflag/everflag/internal/testenv"
	"github.com/everflag/everflag/internal/testenv/abuse"
)

const (
	slotName     = "soak"
	catalogEvery = 300 * time.Millisecond
)

// arena is everything that takes part.
type arena struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand // of the faults
	only string     // faults whose names begin like this, to look at them alone: EVERFLAG_SOAK_FAULT

	pg       *testenv.PGServer
	db       *testenv.DB
	role     login // of the replicators
	servers  redisServers
	cache    *redis.Client // of the Redis that is in use
	nodes    [2]*node
	fronts   [3]*front
	backends []*testenv.Backend // the fronts
	balancer *testenv.Balancer
	bad      map[string]abuse.Request // by name; made when first used

	history *history
	watcher *watcher
	load    *load

	probed   int // serial of the last probe
	probedAt int // the state in which it was committed

	replaced atomic.Bool // Redis has gone back to what it was, and not all have recovered from that
	phase    atomic.Int32

	began time.Time
	report
}

// Phases of a run that readers have to know.
const (
	busy  int32 = iota
	quiet       // all is well
	still       // all servers are down: no answer can change
)

func newArena(t *testing.T, seed uint64) *arena {
	t.Helper()
	a := &arena{t: t, seed: seed, rng: newRand(seed, 1), began: time.Now(), only: os.Getenv("EVERFLAG_SOAK_FAULT"), report: newReport()}
	// A proxy that is silent has accepted connections of which the server hears nothing; without the timeout it could not stop for a minute.
	a.pg = testenv.PostgresServer(t, testenv.PGOptions{Conf: map[string]string{
		"authentication_timeout":    "1s",
		"max_prepared_transactions": "10", "wal_sender_timeout": "5s", "log_min_messages": "panic",
	}})
	a.openRedis()
	a.db = a.pg.Database(t)
	testenv.LoadSchema(t, a.db, testenv.Schema2026)
	a.db.Exec(t, "ALTER TABLE posthog_team SET (toast_tuple_target = 128)")
	a.openLogin()

	numbers := newRand(seed, 2)
	author := &author{dice: func(_ string, n int) int { return numbers.IntN(n) }, gentle: true}
	a.load = &load{author: author, source: &source{url: a.db.URL}, pace: 20 * time.Millisecond}
	a.must(a.load.connect(t.Context()))
	_, must, err := oracle.Expected(t.Context(), a.load.db, oracle.Options{})
	a.must(err)
	a.history = newHistory(must)
	said := newSaid(a.history)
	a.load.history = a.history
	a.must(a.load.begin(t.Context()))
	a.watcher = &watcher{history: a.history, cache: a.cache, prefix: "everflag", pg: a.db.URL, slot: slotName, teams: nomad}
	for i := range a.nodes {
		a.nodes[i] = &node{a: a, toPG: testenv.Proxy(t, a.pg.Addr), toRedis: testenv.Proxy(t, a.servers.inUse.Addr)}
		a.nodes[i].start("")
	}
	a.openFronts(said)
	a.background()
	return a
}

func (a *arena) openFronts(said *said) {
	for i := range a.fronts {
		f := &front{t: a.t, said: said, phase: &a.phase, took: map[int32][]time.Duration{}, addr: "127.0.0.1:" + testenv.FreePort(a.t), admin: "127.0.0.1:" + testenv.FreePort(a.t)}
		f.network = testenv.Proxy(a.t, a.servers.inUse.Addr)
		f.client.Timeout = 5 * time.Second
		f.env = []string{
			"DECIDE_REDIS_URL=" + f.network.URL(a.servers.inUse.URL), "DECIDE_SNAPSHOT_FILE=" + filepath.Join(a.t.TempDir(), "snapshot"),
			"DECIDE_ADDR=" + f.addr, "DECIDE_ADMIN_ADDR=" + f.admin, "DECIDE_DRAIN_DELAY=500ms",
		}
		a.fronts[i] = f
		f.start()
		a.restart(f) // the end of the first life writes the file, which is 30 s away otherwise: from now on it starts without Redis, too
		a.backends = append(a.backends, &testenv.Backend{Addr: f.addr, Ready: "http://" + f.admin + "/readyz"})
	}
	a.balancer = testenv.Balance(a.t, a.backends)
}

// background starts load, watcher and readers; they end with the test.
func (a *arena) background() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { a.load.run(ctx) })
	running.Go(func() { a.watcher.run(ctx) })
	for _, f := range a.fronts {
		running.Go(func() { f.read(ctx, &a.replaced) })
	}
	a.t.Cleanup(func() {
		cancel()
		a.history.abandon()
		running.Wait()
		a.load.close()
		for _, f := range a.fronts {
			f.client.CloseIdleConnections()
		}
	})
}

// node is one replicator with its own wires.
type node struct {
	a             *arena
	toPG, toRedis *testenv.Flaky
	admin         string
	program       *testenv.Program // nil while it is dead
	seen          int              // lines of its log that have been looked at
}

// start starts it; at a killpoint it dies by itself.
func (n *node) start(killpoint string) {
	t := n.a.t
	n.admin = "127.0.0.1:" + testenv.FreePort(t)
	env := environment(t, n.toPG.URL(n.a.role.url), n.toRedis.URL(n.a.servers.inUse.URL), "everflag", slotName,
		"REPLICATOR_ADMIN_ADDR="+n.admin, "REPLICATOR_CATALOG_EVERY="+catalogEvery.String(), "REPLICATOR_MAX_TX_BYTES=192KiB",
		"REPLICATOR_PROVISIONAL_AFTER=2s", "REPLICATOR_VERIFY_EVERY=15s", "REPLICATOR_LOG_FORMAT=json")
	binary := testenv.Build(t, "cmd/replicator", tags()...)
	if killpoint != "" {
		binary = testenv.Build(t, "cmd/replicator", tags("killpoints")...)
		env = append(env, "EVERFLAG_KILLPOINT="+killpoint)
	}
	n.program, n.seen = testenv.Run(t, binary, env), 0
}

func (n *node) kill() {
	if n.program == nil {
		return
	}
	n.program.Kill(n.a.t)
	n.inspect()
	n.program = nil
}

// inspect counts what the log tells.
func (n *node) inspect() {
	if n.program == nil {
		return
	}
	lines := n.program.Logs()
	for _, line := range lines[n.seen:] {
		switch {
		case strings.Contains(line, `"msg":"reconciled"`):
			_, reason, _ := strings.Cut(line, `"reason":"`)
			reason, _, _ = strings.Cut(reason, `"`)
			n.a.reconciles[withoutNumbers(reason)]++
		case strings.Contains(line, "the cache differs from its source"):
			n.a.t.Errorf("difference: a replicator's own verify found drift: %s", line)
		case strings.Contains(line, "panic"):
			n.a.t.Errorf("difference: a replicator panicked: %s", line)
		}
	}
	n.seen = len(lines)
}

// withoutNumbers makes one kind of many reasons.
func withoutNumbers(text string) string { return numbers.ReplaceAllString(text, "") }

var numbers = regexp.MustCompile(`[0-9A-F]*[0-9][0-9A-F/]*`)

// node picks a replicator.
func (a *arena) node() *node { return a.nodes[a.rng.IntN(2)] }

func (a *arena) other(n *node) *node {
	if a.nodes[0] == n {
		return a.nodes[1]
	}
	return a.nodes[0]
}

// leader is the replicator that holds the slot; any if nobody does.
func (a *arena) leader() *node {
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Second)
	defer cancel()
	for _, n := range a.nodes {
		if roleOf(ctx, n.admin) == "leader" {
			return n
		}
	}
	return a.node()
}

// roleOf asks a replicator what it is doing.
func roleOf(ctx context.Context, admin string) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/status", nil)
	if err != nil {
		return ""
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	var status struct{ Role string }
	if json.NewDecoder(response.Body).Decode(&status) != nil {
		return ""
	}
	return status.Role
}

// must ends the run if the harness itself fails.
func (a *arena) must(err error, but ...error) {
	a.t.Helper()
	for _, e := range but {
		if errors.Is(err, e) {
			return
		}
	}
	if err != nil {
		a.t.Fatalf("the harness: %v", err)
	}
}

// sql runs a statement on a connection of its own; the source may be away.
func (a *arena) sql(text string, args ...any) error {
	ctx, cancel := context.WithTimeout(a.t.Context(), 3*time.Second)
	defer cancel()
	db, err := pgx.Connect(ctx, a.db.URL)
	if err != nil {
		return err
	}
	_, err = db.Exec(ctx, text, args...)
	return errors.Join(err, db.Close(ctx))
}

// commit runs statements as a transaction of the load.
func (a *arena) commit(texts ...string) {
	a.load.Lock()
	defer a.load.Unlock()
	var stmts []stmt
	for _, text := range texts {
		stmts = append(stmts, stmt{sql: text})
	}
	if a.load.caughtUp(a.t.Context()) == nil {
		_ = a.load.transaction(a.t.Context(), []step{{stmts, ""}}, commit) // the source may be away
	}
}

// redis runs a command; the server may be away.
func (a *arena) redis(args ...any) {
	ctx, cancel := context.WithTimeout(a.t.Context(), 3*time.Second)
	defer cancel()
	if err := a.cache.Do(ctx, args...).Err(); err != nil {
		a.event("%v: %v", args, err)
	}
}

// equal returns nil if the cache is complete and equal to the tables.
func (a *arena) equal(ctx context.Context, db *pgx.Conn) error {
	meta, err := a.cache.HGetAll(ctx, a.watcher.key("meta")).Result()
	if err != nil || meta["complete"] != "1" || meta["reconcile"] != "" {
		return fmt.Errorf("meta is %v (%v)", meta, err)
	}
	lines, err := oracle.Differences(ctx, db, a.cache, oracle.Options{})
	if err != nil || len(lines) > 0 {
		return fmt.Errorf("%d differences (%v): %s", len(lines), err, strings.Join(lines[:min(5, len(lines))], "; "))
	}
	return nil
}
