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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/oracle"
	"github.com/everflag/everflag/internal/testenv"
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
	only string     // a fault, to look at it alone: EVERFLAG_SOAK_FAULT

	pg       *testenv.PGServer
	db       *testenv.DB
	rd       *testenv.RedisInstance
	redisDir string
	cache    *redis.Client
	nodes    [2]*node
	fronts   [2]*front

	history *history
	watcher *watcher
	load    *load
	probed  int // serial of the last probe

	replaced atomic.Bool // Redis was restored from a dump, and not all have recovered from that

	began      time.Time
	events     []string
	tally      map[string]*tally
	recoveries []time.Duration
	reconciles map[string]int
}

type tally struct {
	n       int
	longest time.Duration
}

func newArena(t *testing.T, seed uint64) *arena {
	t.Helper()
	a := &arena{t: t, seed: seed, rng: newRand(seed, 1), began: time.Now(), only: os.Getenv("EVERFLAG_SOAK_FAULT"), tally: map[string]*tally{}, reconciles: map[string]int{}}
	// A proxy that is silent has accepted connections of which the server hears nothing; without the timeout it could not stop for a minute.
	a.pg = testenv.PostgresServer(t, testenv.PGOptions{Conf: map[string]string{
		"authentication_timeout":    "1s",
		"max_prepared_transactions": "10", "wal_sender_timeout": "5s", "log_min_messages": "panic",
	}})
	a.rd = testenv.RedisServer(t, testenv.RedisOptions{Process: true})
	a.db = a.pg.Database(t)
	testenv.LoadSchema(t, a.db, testenv.Schema2026)
	a.db.Exec(t, "ALTER TABLE posthog_team SET (toast_tuple_target = 128)")
	a.cache = a.rd.Client(t)
	a.redisDir = a.cache.ConfigGet(t.Context(), "dir").Val()["dir"]

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
	a.watcher = &watcher{history: a.history, cache: a.cache, prefix: "everflag", pg: a.db.URL, slot: slotName, teams: steadyTo}
	for i := range a.nodes {
		a.nodes[i] = &node{a: a, toPG: testenv.Proxy(t, a.pg.Addr), toRedis: testenv.Proxy(t, a.rd.Addr)}
		a.nodes[i].start("")
	}
	a.openFronts(said)
	a.background()
	return a
}

func (a *arena) openFronts(said *said) {
	for i := range a.fronts {
		f := &front{t: a.t, said: said, addr: "127.0.0.1:" + testenv.FreePort(a.t), admin: "127.0.0.1:" + testenv.FreePort(a.t)}
		f.network = testenv.Proxy(a.t, a.rd.Addr)
		f.client.Timeout = 5 * time.Second
		f.env = []string{
			"DECIDE_REDIS_URL=" + f.network.URL(a.rd.URL), "DECIDE_SNAPSHOT_FILE=" + filepath.Join(a.t.TempDir(), "snapshot"), "DECIDE_ADDR=" + f.addr,
			"DECIDE_ADMIN_ADDR=" + f.admin, "DECIDE_DRAIN_DELAY=0s",
		}
		a.fronts[i] = f
		f.start()
	}
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
	env := environment(t, n.toPG.URL(n.a.db.URL), n.toRedis.URL(n.a.rd.URL), "everflag", slotName,
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
func withoutNumbers(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
}

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

// commit runs one statement as a transaction of the load.
func (a *arena) commit(sql string) {
	a.load.Lock()
	defer a.load.Unlock()
	if a.load.caughtUp(a.t.Context()) == nil {
		_ = a.load.transaction(a.t.Context(), []step{{[]stmt{{sql: sql}}, ""}}, commit) // the source may be away
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

func (a *arena) event(format string, args ...any) {
	line := time.Now().Format("15:04:05.000 ") + fmt.Sprintf(format, args...)
	a.events = append(a.events, line)
}

func (a *arena) count(name string, took time.Duration) {
	if a.tally[name] == nil {
		a.tally[name] = &tally{}
	}
	a.tally[name].n++
	a.tally[name].longest = max(a.tally[name].longest, took)
}

// summary prints what happened.
func (a *arena) summary() {
	for _, n := range a.nodes {
		n.inspect()
	}
	var b strings.Builder
	total, slow := 0, 0
	for _, name := range sortedKeys(a.tally) {
		if !strings.HasPrefix(name, "recovery: ") {
			fmt.Fprintf(&b, "  %4d  %s\n", a.tally[name].n, name)
			if !strings.Contains(name, "died at") {
				total += a.tally[name].n
			}
		}
	}
	fmt.Fprintf(&b, "reconciles\n")
	reconciles := 0
	for _, reason := range sortedKeys(a.reconciles) {
		fmt.Fprintf(&b, "  %4d  %s\n", a.reconciles[reason], reason)
		reconciles += a.reconciles[reason]
	}
	fmt.Fprintf(&b, "recoveries that took longer than %v\n", quick)
	for _, name := range sortedKeys(a.tally) {
		if tally := a.tally[name]; tally.longest > quick {
			fmt.Fprintf(&b, "  %4d  %s: up to %v\n", tally.n, strings.TrimPrefix(name, "recovery: "), tally.longest.Round(10*time.Millisecond))
			slow++
		}
	}
	slices.Sort(a.recoveries)
	median := time.Duration(0)
	if n := len(a.recoveries); n > 0 {
		median = a.recoveries[n/2]
	}
	verdict := "no differences"
	if a.t.Failed() {
		verdict = "DIFFERENCES, see above; the last events:\n" + strings.Join(a.events[max(0, len(a.events)-40):], "\n")
	}
	a.load.Lock()
	defer a.load.Unlock()
	a.watcher.mu.Lock()
	defer a.watcher.mu.Unlock()
	a.t.Logf("soak: seed %d, %v: %s\n%d faults\n%stransactions %d committed, %d aborted, %d cut off; states %d; slowest commit %v\n"+
		"looks at the cache %d, answers %d; %d reconciles; median recovery %v, longest staleness %v", a.seed, time.Since(a.began).Round(time.Second), verdict,
		total, b.String(), a.load.committed, a.load.aborted, a.load.errors, a.history.newest()+1, a.load.slowest.Round(time.Millisecond),
		a.watcher.looks, a.fronts[0].asked.Load()+a.fronts[1].asked.Load(), reconciles, median.Round(time.Millisecond), a.watcher.longest.Round(time.Millisecond))
}
