package soak

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/everflag/everflag/internal/killpoint"
	"github.com/everflag/everflag/internal/testenv"
	"github.com/everflag/everflag/internal/testenv/server"
)

// fault is one way in which things go wrong. inject returns what undoes it.
type fault struct {
	name   string
	target string // two faults at a time have different targets
	hold   [2]time.Duration
	alone  bool // it waits until all is well, so nothing else may be wrong
	inject func(a *arena) (heal func())

	returns bool // Redis comes back, with or without what it had: all must be well quickly
}

var (
	brief = [2]time.Duration{0, time.Second}
	some  = [2]time.Duration{200 * time.Millisecond, 4 * time.Second}
	long  = [2]time.Duration{3 * time.Second, 9 * time.Second}
)

func nothing() {}

var faults = []fault{
	{name: "replicator: kill -9", target: "replicator", hold: brief, inject: func(a *arena) func() {
		n := a.node()
		n.kill()
		return func() { n.start("") }
	}},
	{name: "replicators: both kill -9", target: "replicator", hold: brief, inject: func(a *arena) func() {
		a.nodes[0].kill()
		a.nodes[1].kill()
		return a.startAll
	}},
	{name: "replicator: kill at a point", target: "replicator", hold: brief, inject: (*arena).killAtPoint},
	{name: "replicator: SIGTERM", target: "replicator", hold: brief, inject: func(a *arena) func() {
		n := a.node()
		n.program.Signal(a.t, syscall.SIGTERM)
		return func() { n.kill(); n.start("") }
	}},
	{name: "leader: frozen", target: "replicator", hold: long, inject: func(a *arena) func() { return a.freeze(a.leader()) }},
	{name: "leader: frozen a moment", target: "replicator", hold: brief, inject: func(a *arena) func() { return a.freeze(a.leader()) }},
	{name: "Postgres: fast restart", target: "Postgres", hold: brief, inject: func(a *arena) func() { return a.restartPostgres(server.Fast) }},
	{name: "Postgres: immediate restart", target: "Postgres", hold: brief, inject: func(a *arena) func() { return a.restartPostgres(server.Immediate) }},
	{name: "Postgres: kill -9", target: "Postgres", hold: brief, inject: func(a *arena) func() {
		a.pg.Kill(a.t)
		return func() { a.pg.Start(a.t) }
	}},
	{name: "Postgres: frozen", target: "Postgres", hold: some, inject: func(a *arena) func() {
		a.pg.Freeze(a.t)
		return func() { a.pg.Thaw(a.t) }
	}},
	{name: "Postgres: walsender terminated", target: "Postgres", hold: brief, inject: func(a *arena) func() {
		a.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active", slotName)
		return nothing
	}},
	{name: "Postgres: slot dropped", target: "Postgres", hold: brief, inject: (*arena).dropSlot},
	{name: "Postgres: publication dropped", alone: true, target: "Postgres", hold: brief, inject: func(a *arena) func() {
		a.tables(func(context.Context) error {
			return a.load.alone(a.t.Context(), "DROP PUBLICATION IF EXISTS "+slotName)
		})
		return nothing
	}},
	{name: "Postgres: migration", alone: true, target: "Postgres", hold: brief, inject: func(a *arena) func() {
		a.tables(func(ctx context.Context) error {
			return a.load.transaction(ctx, []step{{a.load.author.migrate(), ""}}, commit)
		})
		return nothing
	}},
	{name: "Postgres: prepared transaction", target: "Postgres", hold: some, inject: (*arena).prepare},
	{name: "Postgres: huge transaction", target: "Postgres", hold: brief, inject: func(a *arena) func() {
		const few = "WHERE id IN (SELECT id FROM posthog_cohort ORDER BY id LIMIT 3)"
		a.commit("UPDATE posthog_cohort SET filters = jsonb_build_object('noise', (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 8000))) " + few)
		return func() { a.commit("UPDATE posthog_cohort SET filters = NULL WHERE length(filters::text) > 100000") }
	}},
	{name: "Postgres: slot lost", alone: true, target: "Postgres", hold: brief, inject: (*arena).loseSlot},
	// Alone, because a replicator that starts with a password that is not valid ends, as with any wrong setting.
	{name: "Postgres: password rotated", alone: true, target: "Postgres", hold: some, inject: (*arena).rotatePassword},
	{name: "Postgres: a token rotated", target: "Postgres", hold: brief, inject: (*arena).rotateToken},
	{name: "Postgres: a team deleted and made again", target: "Postgres", hold: brief, inject: (*arena).deleteTeam},
	{name: "Redis: kill -9, empty", returns: true, target: "Redis", hold: brief, inject: func(a *arena) func() {
		a.servers.inUse.Kill(a.t)
		a.loseDump()
		return func() { a.servers.inUse.Start(a.t) }
	}},
	{name: "Redis: kill -9 again and again", returns: true, target: "Redis", hold: brief, inject: (*arena).killRedisOften},
	{name: "Redis: kill -9, restart from a new dump", returns: true, target: "Redis", hold: brief, inject: func(a *arena) func() {
		a.save()
		a.copyDump()
		return a.restore()
	}},
	{name: "Redis: kill -9, restart from an old dump", returns: true, target: "Redis", hold: brief, inject: func(a *arena) func() {
		if _, err := os.Stat(a.servers.copied); err != nil {
			a.save()
			a.copyDump()
		}
		return a.restore()
	}},
	{name: "Redis: FLUSHALL", target: "Redis", hold: brief, inject: func(a *arena) func() {
		a.redis("FLUSHALL")
		return nothing
	}},
	{name: "Redis: SCRIPT FLUSH, CLIENT KILL", target: "Redis", hold: brief, inject: func(a *arena) func() {
		a.redis("SCRIPT", "FLUSH")
		a.redis("CLIENT", "KILL", "TYPE", "normal")
		return nothing
	}},
	{name: "Redis: frozen", target: "Redis", hold: some, inject: func(a *arena) func() {
		a.servers.inUse.Freeze(a.t)
		return func() { a.servers.inUse.Thaw(a.t) }
	}},
	{name: "Redis: failover to a lagging replica", returns: true, target: "Redis", hold: some, inject: (*arena).failOver},
	{name: "Redis: another, empty server", returns: true, target: "Redis", hold: brief, inject: (*arena).swapRedis},
	{name: "Redis: epoch raised", target: "Redis", hold: brief, inject: func(a *arena) func() {
		a.redis("HINCRBY", a.watcher.key("meta"), "epoch", 1)
		return nothing
	}},
	{name: "Redis: stream trimmed", target: "Redis", hold: some, inject: func(a *arena) func() {
		return a.behindTheStream("XTRIM", a.watcher.key("changes"), "MAXLEN", 0)
	}},
	{name: "Redis: stream deleted", target: "Redis", hold: some, inject: func(a *arena) func() {
		return a.behindTheStream("DEL", a.watcher.key("changes"))
	}},
	{name: "network to Redis: cut", target: "network", hold: some, inject: func(a *arena) func() { return a.cut(toRedis, (*testenv.Flaky).Cut) }},
	{name: "network to Redis: silent", target: "network", hold: some, inject: func(a *arena) func() { return a.cut(toRedis, (*testenv.Flaky).Stall) }},
	{name: "network to Redis: half closed", target: "network", hold: some, inject: func(a *arena) func() { return a.cut(toRedis, (*testenv.Flaky).HalfClose) }},
	{name: "network to Redis: slow", target: "network", hold: some, inject: func(a *arena) func() { return a.cut(toRedis, slow) }},
	{name: "network to Postgres: cut", target: "network", hold: some, inject: func(a *arena) func() { return a.cut(toPostgres, (*testenv.Flaky).Cut) }},
	{name: "network to Postgres: silent", target: "network", hold: some, inject: func(a *arena) func() { return a.cut(toPostgres, (*testenv.Flaky).Stall) }},
	{name: "network to Postgres: half closed", target: "network", hold: some, inject: func(a *arena) func() { return a.cut(toPostgres, (*testenv.Flaky).HalfClose) }},
	{name: "network to Postgres: slow", target: "network", hold: some, inject: func(a *arena) func() { return a.cut(toPostgres, slow) }},
	{name: "decide: kill -9", target: "decide", hold: brief, inject: func(a *arena) func() {
		f := a.front()
		f.kill()
		return f.start
	}},
	{name: "decide: rolling restart", target: "decide", hold: brief, inject: (*arena).rollingRestart},
	{name: "decide: hostile requests", target: "decide", hold: brief, inject: (*arena).beHostile},
	{name: "decide: slow clients", target: "decide", hold: some, inject: (*arena).dribble},
	{name: "decide: no Redis", target: "network of decide", hold: some, inject: func(a *arena) func() { return a.cutFront((*testenv.Flaky).Cut) }},
	{name: "decide: silent network", target: "network of decide", hold: long, inject: func(a *arena) func() { return a.cutFront((*testenv.Flaky).Stall) }},
	{name: "decide: half closed network", target: "network of decide", hold: some, inject: func(a *arena) func() { return a.cutFront((*testenv.Flaky).HalfClose) }},
	{name: "all servers down", alone: true, target: "all", hold: some, inject: func(a *arena) func() { return a.allDown(false) }},
	{name: "all servers down, decide restarted", alone: true, target: "all", hold: brief, inject: func(a *arena) func() { return a.allDown(true) }},
}

func slow(f *testenv.Flaky) { f.Delay(50 * time.Millisecond) }

func toRedis(n *node) *testenv.Flaky    { return n.toRedis }
func toPostgres(n *node) *testenv.Flaky { return n.toPG }

// cut breaks the network of one replicator or of both.
func (a *arena) cut(which func(*node) *testenv.Flaky, how func(*testenv.Flaky)) (heal func()) {
	nodes := a.nodes[:]
	if a.rng.IntN(2) == 0 {
		nodes = []*node{a.node()}
	}
	for _, n := range nodes {
		how(which(n))
	}
	return func() {
		for _, n := range nodes {
			which(n).Cut() // what was swallowed leaves connections out of step
			which(n).Restore()
		}
	}
}

// cutFront breaks the network of one decide process.
func (a *arena) cutFront(how func(*testenv.Flaky)) (heal func()) {
	f := a.front()
	how(f.network)
	return func() {
		if a.rng.IntN(2) == 0 { // else those connections go on that can
			f.network.Cut()
		}
		f.network.Restore()
	}
}

func (a *arena) freeze(n *node) (heal func()) {
	n.program.Signal(a.t, syscall.SIGSTOP)
	return func() { n.program.Signal(a.t, syscall.SIGCONT) }
}

func (a *arena) restartPostgres(how server.StopMode) (heal func()) {
	start := time.Now()
	a.pg.Stop(a.t, how)
	if took := time.Since(start); took > 10*time.Second {
		a.t.Errorf("Postgres needed %v for a %s shutdown (G5)", took, how)
	}
	return func() { a.pg.Start(a.t) }
}

// killAtPoint lets a replicator die between two steps whose order matters.
func (a *arena) killAtPoint() (heal func()) {
	n := a.node()
	n.kill()
	stages := []string{killpoint.Read, killpoint.Apply, killpoint.Acknowledge, killpoint.Reconcile}
	stage := stages[a.rng.IntN(len(stages))]
	a.other(n).kill() // so that it leads: a stand-by passes none of these points
	passes := a.rng.IntN(20)
	if stage == killpoint.Reconcile { // which there has to be first
		a.redis("FLUSHALL")
		passes %= 8
	}
	n.start(stage + ":" + strconv.Itoa(passes))
	timer := time.NewTimer(4 * time.Second)
	defer timer.Stop()
	select {
	case <-n.program.Ended():
		a.count("replicator: died at "+stage, 0)
	case <-timer.C: // the point did not come often enough
	}
	return func() {
		n.kill()
		n.start("")
		a.other(n).start("")
	}
}

// dropSlot takes the slot from under the replicators.
func (a *arena) dropSlot() (heal func()) {
	for range 20 {
		a.sql("SELECT pg_terminate_backend(active_pid, 1000) FROM pg_replication_slots WHERE slot_name = $1 AND active", slotName)
		if a.sql("SELECT pg_drop_replication_slot($1)", slotName) == nil {
			break // else a replicator was quicker
		}
	}
	return nothing
}

// prepare leaves a transaction undecided, which every new slot has to wait for.
func (a *arena) prepare() (heal func()) {
	a.load.Lock()
	defer a.load.Unlock()
	if a.load.prepared == "" {
		_ = a.load.transaction(a.t.Context(), []step{{a.load.author.steady(), ""}}, prepare) // the source may be away
	}
	how := []ending{commit, rollback}[a.rng.IntN(2)]
	return func() {
		testenv.Eventually(a.t, settle, func() error {
			a.load.Lock()
			defer a.load.Unlock()
			if err := a.load.caughtUp(a.t.Context()); err != nil {
				return err
			}
			return a.load.decide(a.t.Context(), how)
		})
	}
}

// tables changes definitions, or what is published of them, and lets no other transaction follow until the replicator has had the time to see it: the
// stream does not tell, so until then nobody can know.
func (a *arena) tables(change func(context.Context) error) {
	a.load.Lock()
	defer a.load.Unlock()
	if change(a.t.Context()) != nil {
		return // the source is away; the load will catch up
	}
	before := time.Now()
	testenv.Eventually(a.t, settle, func() error {
		if time.Since(before) < 4*catalogEvery {
			return fmt.Errorf("waiting for the catalog watch")
		}
		return a.equal(a.t.Context(), a.load.db)
	})
	a.history.tighten()
}
