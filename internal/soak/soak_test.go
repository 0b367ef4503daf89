package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// TestSoak lets load and random faults loose on the real programs, two replicators and three decide processes, and holds what the cache shows and what decide
// says against the history of commits all the time. After every fault the newest state must be served within seconds, without anybody's help (G1–G9).
//
//	EVERFLAG_SOAK_TIME=2m   how long
//	EVERFLAG_SOAK_FAULTS=50 how many faults instead
//	EVERFLAG_SOAK_SEED=17   which faults, in which order, and which load; the moments at which they meet are the machine's
func TestSoak(t *testing.T) {
	t.Parallel()
	lasting := duration(t, "EVERFLAG_SOAK_TIME", 15*time.Second)
	seed, most := number(t, "EVERFLAG_SOAK_SEED", uint64(time.Now().UnixNano())), number(t, "EVERFLAG_SOAK_FAULTS", 0)
	extent := lasting.String()
	if most > 0 {
		extent = fmt.Sprint(most, " faults")
	}
	fmt.Printf("soak: seed %d, for %s\n", seed, extent) // at once, and not with the rest at the end
	a := newArena(t, seed)
	defer a.summary()
	a.recover("start", patience)
	told := time.Now()
	until := time.Now().Add(lasting)
	for goOn := func() bool { return most == 0 && time.Now().Before(until) || uint64(a.faults) < most }; goOn() && !t.Failed(); {
		a.round()
		if time.Since(told) > time.Minute {
			told = time.Now()
			fmt.Printf("soak: %v, %d faults, %d recoveries, %d looks\n", time.Since(a.began).Round(time.Second), a.faults, len(a.recoveries), a.watcher.count())
		}
	}
	if !t.Failed() {
		a.quiesce()
	}
}

// number is what a variable of the environment says.
func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// round is one fault, or two at a time, and the recovery from it.
func (a *arena) round() {
	chosen := []fault{a.pick(func(f fault) bool { return strings.HasPrefix(f.name, a.only) })}
	if first := chosen[0]; !first.alone && a.only == "" && a.rng.IntN(3) == 0 {
		chosen = append(chosen, a.pick(func(f fault) bool { return !f.alone && f.target != first.target }))
	}
	name := ""
	heals := make([]func(), len(chosen))
	a.phase.Store(busy)
	for i, f := range chosen {
		a.event("inject %s", f.name)
		heals[i] = f.inject(a)
		if name += f.name; i < len(chosen)-1 {
			name += " + "
		}
	}
	for i, f := range chosen {
		a.pause(f.hold[0] + time.Duration(a.rng.Int64N(int64(f.hold[1]-f.hold[0]))))
		a.event("heal %s", f.name)
		heals[i]()
		a.count(f.name, 0)
		a.faults++
	}
	within := patience
	if len(chosen) == 1 && chosen[0].returns {
		within = quick
	}
	a.recover(name, within)
	a.phase.Store(quiet)
	a.pause(time.Duration(a.rng.Int64N(int64(500 * time.Millisecond))))
	a.check()
	if err := a.load.unfit(); err != nil {
		a.t.Errorf("difference: the load does not fit the tables: %v", err)
	}
}

func (a *arena) pick(suits func(fault) bool) fault {
	for {
		if f := faults[a.rng.IntN(len(faults))]; suits(f) {
			return f
		}
	}
}

func (a *arena) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.t.Context().Done():
	}
}

// How quickly all must be well again after a fault. Where Redis comes back and nothing else was wrong, quick is the limit. All else may take as long as
// patience, since it waits for more than Redis: new slots for running transactions, a rotated password for the next attempt of a back-off. What takes longer
// than quick is counted there.
const (
	quick    = 2 * time.Second
	patience = 20 * time.Second
)

// recover commits a change and waits until all decide processes serve it and the cache calls itself complete.
func (a *arena) recover(after string, within time.Duration) {
	start := time.Now()
	deadline := start.Add(patience)
	payload := ""
	var last error
	for time.Now().Before(deadline) && !a.t.Failed() {
		if payload == "" {
			payload, last = a.probe()
		} else if last = a.served(payload); last == nil {
			took := time.Since(start)
			a.replaced.Store(false)
			a.count("recovery: "+after, took)
			a.recoveries = append(a.recoveries, took)
			a.event("recovered after %v", took.Round(time.Millisecond))
			if took > within {
				a.t.Errorf("difference: recovered %v after %s, and not within %v", took.Round(time.Millisecond), after, within)
			}
			return
		}
		a.pause(5 * time.Millisecond)
	}
	a.t.Errorf("not recovered within %v after %s: %v", patience, after, last)
}

// probe commits a change that can be told from all others.
func (a *arena) probe() (payload string, err error) {
	a.load.Lock()
	defer a.load.Unlock()
	ctx, cancel := context.WithTimeout(a.t.Context(), 5*time.Second)
	defer cancel()
	if err := a.load.caughtUp(ctx); err != nil {
		return "", err
	}
	filters := a.load.author.steadyFilters(100)
	payload = strconv.Itoa(a.load.author.serial)
	a.probed = a.load.author.serial
	before := a.load.committed
	st := sqlf("UPDATE posthog_featureflag SET filters = '%s', active = true WHERE team_id BETWEEN %d AND %d AND key = 's-1'", filters, steadyFrom, steadyTo)
	if err := a.load.transaction(ctx, []step{{[]stmt{st}, ""}}, commit); err != nil {
		return "", err
	}
	if a.load.committed == before {
		return "", fmt.Errorf("the probe was aborted") // a prepared transaction holds the rows
	}
	a.probedAt = a.history.newest()
	return payload, nil
}

// served returns nil if all decide processes answer as of the probe, or a later change of the same flag, and the cache is complete.
func (a *arena) served(payload string) error {
	ctx, cancel := context.WithTimeout(a.t.Context(), 2*time.Second)
	defer cancel()
	for _, f := range a.fronts {
		on, answer, err := f.ask(ctx, steadyToken(steadyFrom))
		if err != nil {
			return err
		}
		if got, _ := strconv.Atoi(on["s-1"]); got < a.probed {
			return fmt.Errorf("decide at %s says %s, not yet %s", f.addr, answer, payload)
		}
		for _, token := range f.said.nomadic() { // those that are no longer valid, too
			_, answer, err := f.ask(ctx, token)
			if err == nil {
				_, err = f.said.judge(token, answer, a.probedAt)
			}
			if err != nil {
				return fmt.Errorf("decide at %s: %w", f.addr, err)
			}
		}
	}
	meta, err := a.cache.HGetAll(ctx, a.watcher.key("meta")).Result()
	if err != nil {
		return err
	}
	if meta["complete"] != "1" || meta["reconcile"] != "" {
		return fmt.Errorf("meta is %v", meta)
	}
	return nil
}

// check fails as soon as anybody has seen something wrong.
func (a *arena) check() {
	if err := a.watcher.err(); err != nil {
		a.t.Errorf("difference: %v", err)
	}
	for _, f := range a.fronts {
		if err := f.err(); err != nil {
			a.t.Errorf("difference: %v", err)
		}
		f.inspect()
		a.runs("a decide process", f.program)
	}
	a.weigh()
	for _, n := range a.nodes {
		n.inspect()
		a.runs("a replicator", n.program)
	}
}

// runs wants a program that was not told to end to be there.
func (a *arena) runs(name string, p *testenv.Program) {
	select {
	case <-p.Ended():
		logs := p.Logs()
		a.t.Errorf("difference: %s has ended by itself: %s", name, logs[max(0, len(logs)-1):])
	default:
	}
}

// quiesce stops the load and wants the cache to be equal to the tables, and all decide processes to be certain of it: only then do they answer 401.
func (a *arena) quiesce() {
	a.load.Lock()
	defer a.load.Unlock()
	testenv.Eventually(a.t, settle, func() error {
		if err := a.load.caughtUp(a.t.Context()); err != nil {
			return err
		}
		return a.equal(a.t.Context(), a.load.db)
	})
	testenv.Eventually(a.t, settle, func() error {
		for _, f := range a.fronts {
			if _, answer, err := f.ask(a.t.Context(), "phc_nobody"); err != nil || answer != gone {
				return fmt.Errorf("decide at %s says %q to a token that nobody has (%w)", f.addr, answer, err)
			}
		}
		return nil
	})
	a.check()
}

func newRand(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
