package soak

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/everflag/everflag/internal/oracle"
)

// set changes a flag of the rapid library for this process; its only other settings are the command line's.
func set(t *testing.T, name, value string) {
	t.Helper()
	if err := flag.Set(name, value); err != nil {
		t.Fatal(err)
	}
}

// actions is the program.
func (p *program) actions() {
	p.begin()
	p.Repeat(map[string]func(*rapid.T){
		"transaction 1": p.transact,
		"transaction 2": p.transact,
		"transaction 3": p.transact,
		"transaction 4": p.transact,
		"transaction 5": p.transact,
		"transaction 6": p.transact,
		"burst":         p.burst,
		"migrate":       p.migrate,
		"decide":        p.decidePrepared,
		"start":         p.start,
		"start 2":       p.start,
		"end":           p.endReplicator,
		"network":       p.network,
		"network 2":     p.restore,
		"flush":         p.flush,
		"hang up":       p.hangUp,
		"quiesce":       p.quiesce,
		"":              func(*rapid.T) { p.check() },
	})
	p.quiesce(p.T)
}

// begin fills some of the tables.
func (p *program) begin() {
	var rows []stmt
	for team := 1; team <= 3; team++ {
		rows = append(rows, teamRows(team, fmt.Sprint("phc_first_", team))...)
	}
	for flag := 1; flag <= 5; flag++ {
		rows = append(rows, insert("posthog_featureflag", flagRow(flag, fmt.Sprint("first-", flag), nil), "team_id", "posthog_team", 1+flag%3))
	}
	p.must(p.source.transaction(p.stage.t.Context(), []step{{rows, ""}}, commit))
	p.start(nil)
}

func (p *program) note(format string, args ...any) {
	p.source.note(fmt.Sprintf("-- ["+format+"]", args...))
}

// fail ends the program. The first failure is told at once and with all that led to it: what shrinks afterwards may fail differently, or not again.
func (p *program) fail(format string, args ...any) {
	if !p.told {
		p.told = true
		verdict := fmt.Sprintf(format, args...)
		logs := p.earlier.String()
		if p.running != nil {
			logs += p.running.logs()
		}
		p.stage.t.Logf("%s\nthe program, of a replicator with %+v (the real program: %t):\n%s\nthe replicator's log:\n%s",
			verdict, p.tune, p.real, strings.Join(p.source.script, "\n"), logs)
	}
	p.Fatalf(format, args...)
}

// must ends the program if the harness itself fails.
func (p *program) must(err error) {
	if err != nil {
		p.fail("the harness: %v", err)
	}
}

// check fails as soon as the watcher has seen something wrong.
func (p *program) check() {
	if err := p.watcher.err(); err != nil {
		p.fail("the cache: %v", err)
	}
}

func (p *program) transact(*rapid.T) {
	a := p.author
	var steps []step
	for range a.one("changes", 1, 4) {
		steps = append(steps, step{a.write(), []string{"", "", "", "RELEASE", "ROLLBACK TO"}[a.dice("savepoint", 5)]})
	}
	end := commit
	if a.chance("rollback", 12) {
		end = rollback
	} else if p.source.prepared == "" && !locksOut(steps) && a.chance("prepare", 12) {
		end = prepare
	}
	p.must(p.source.transaction(p.stage.t.Context(), steps, end))
}

// locksOut reports whether nobody could read the tables while these steps are undecided.
func locksOut(steps []step) bool {
	return slices.ContainsFunc(steps, func(s step) bool {
		return slices.ContainsFunc(s.stmts, func(st stmt) bool { return strings.HasPrefix(st.sql, "TRUNCATE") })
	})
}

// burst commits many small transactions at once, which batches and races are made of.
func (p *program) burst(*rapid.T) {
	for range p.author.one("burst", 5, 25) {
		p.must(p.source.transaction(p.stage.t.Context(), []step{{p.author.write(), ""}}, commit))
	}
}

func (p *program) migrate(*rapid.T) {
	p.must(p.source.transaction(p.stage.t.Context(), []step{{p.author.migrate(), ""}}, commit))
	if p.author.chance("rewrite", 8) {
		p.must(p.source.alone(p.stage.t.Context(), "VACUUM FULL posthog_cohort"))
	}
}

func (p *program) decidePrepared(*rapid.T) {
	how := commit
	if p.author.chance("rollback", 3) {
		how = rollback
	}
	p.must(p.source.decide(p.stage.t.Context(), how))
}

func (p *program) start(*rapid.T) {
	if p.running != nil {
		return
	}
	p.note("start")
	if p.real {
		p.running = startOutside(p.stage.t, p.toPG.URL(p.url), p.toRedis.URL(p.space.URL), p.space.Prefix, p.slot)
		return
	}
	p.running = startWithin(p.stage.t, p.toPG.URL(p.url), p.toRedis.URL(p.space.URL), p.space.Prefix, p.slot, p.tune)
}

// kill ends the replicator without any last words.
func (p *program) kill() {
	if p.running == nil {
		return
	}
	p.toPG.Cut()
	p.toRedis.Cut()
	p.ended(p.running.stop())
	p.toPG.Restore()
	p.toRedis.Restore()
	p.broken, p.lost = false, false
}

// ended looks at the last of a replicator: the only error that ends one is one that waiting cannot mend, and there is none here.
func (p *program) ended(err error) {
	fmt.Fprintf(&p.earlier, "%s\n", p.running.logs())
	p.running = nil
	if err != nil {
		p.fail("the replicator gave up: %v", err)
	}
}

// endReplicator kills it, or lets it finish what it has in hand.
func (p *program) endReplicator(*rapid.T) {
	switch {
	case p.running == nil || p.author.chance("not", 3):
	case p.broken || p.author.chance("kill", 2):
		p.note("kill")
		p.kill()
	default:
		p.note("stop")
		p.ended(p.running.stop())
	}
}

func (p *program) network(*rapid.T) {
	if p.broken {
		p.restore(nil)
		return
	}
	side := []string{"Redis", "Postgres"}[p.author.dice("side", 2)]
	how := []string{"cut", "stall", "swallow", "delay"}[p.author.dice("network", 4)]
	p.note("network to %s: %s", side, how)
	flaky := p.toRedis
	if side == "Postgres" {
		flaky = p.toPG
	}
	switch how {
	case "cut":
		flaky.Cut()
	case "stall":
		flaky.Stall()
	case "swallow":
		flaky.HalfClose()
		p.lost = true
	case "delay":
		flaky.Delay(10 * time.Millisecond)
	}
	p.broken = true
}

func (p *program) restore(*rapid.T) {
	if p.broken {
		p.note("network restored")
		p.heal()
	}
}

func (p *program) heal() {
	if p.lost {
		p.toPG.Cut()
		p.toRedis.Cut()
	}
	p.toPG.Restore()
	p.toRedis.Restore()
	p.broken, p.lost = false, false
}

func (p *program) flush(*rapid.T) {
	if p.author.chance("really", 3) {
		p.note("FLUSHDB")
		p.must(p.cache.FlushDB(p.stage.t.Context()).Err())
	}
}

// hangUp ends the walsender.
func (p *program) hangUp(*rapid.T) {
	p.note("pg_terminate_backend")
	p.do("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active", p.slot)
}

// quiesce lets everything be well and wants the cache to be equal to the tables, whole and sure of it.
func (p *program) quiesce(r *rapid.T) {
	p.note("quiesce")
	p.heal()
	p.decidePrepared(r)
	ctx := p.stage.t.Context()
	epoch := ""
	if p.source.history.isLoose() { // a new session is sure to have seen the migrations
		p.kill()
		epoch = p.cache.HGet(ctx, "{"+p.space.Prefix+"}:meta", "epoch").Val()
	}
	p.start(r)
	want, must, err := oracle.Expected(ctx, p.source.db, oracle.Options{})
	p.must(err)
	var last error
	for deadline := time.Now().Add(settle); ; {
		p.check()
		if last = p.equal(want, must, epoch); last == nil {
			break
		}
		if time.Now().After(deadline) {
			p.fail("the cache is not equal to the tables after %v: %v", settle, last)
		}
		timer := time.NewTimer(5 * time.Millisecond)
		<-timer.C
	}
	p.source.history.tighten()
}

func (p *program) equal(want oracle.State, must map[string][]string, former string) error {
	ctx := p.stage.t.Context()
	meta, err := p.cache.HGetAll(ctx, "{"+p.space.Prefix+"}:meta").Result()
	if err != nil || meta["complete"] != "1" || meta["reconcile"] != "" || meta["epoch"] == former {
		return fmt.Errorf("meta is %v (%v)", meta, err)
	}
	got, err := oracle.Cached(ctx, p.cache, oracle.Options{Prefix: p.space.Prefix})
	if err != nil {
		return err
	}
	lines := oracle.Compare(want, got, must)
	if len(lines) == 0 {
		return nil
	}
	return errors.New(strings.Join(lines[:min(10, len(lines))], "\n"))
}
