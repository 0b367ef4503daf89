package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
	"github.com/everflag/everflag/replication"
)

// contents is all that readers can see of the cache: versions, tokens, the stream of changes, every team, and who leads.
func (w *world) contents(t *testing.T) string {
	t.Helper()
	tag := "{" + w.redis.Prefix + "}:"
	var lines []string
	for _, key := range w.cache.Keys(t.Context(), strings.NewReplacer("[", `\[`, "*", `\*`).Replace(tag)+"*").Val() {
		switch key {
		case tag + "meta":
			lines = append(lines, fmt.Sprint(key, w.cache.HMGet(t.Context(), key, "owner", "epoch", "checkpoint", "complete", "reconcile").Val()))
		case tag + "changes":
			lines = append(lines, fmt.Sprint(key, w.cache.XRange(t.Context(), key, "-", "+").Val()))
		default:
			lines = append(lines, fmt.Sprint(key, w.cache.HGetAll(t.Context(), key).Val()))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// quiet returns the contents once they have stood still for a moment, an idle checkpoint included.
func (w *world) quiet(t *testing.T) string {
	t.Helper()
	last, since := w.contents(t), time.Now()
	testenv.Eventually(t, settle, func() error {
		if now := w.contents(t); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < time.Second {
			return errors.New("the cache changes")
		}
		return nil
	})
	return last
}

// TestFrozenProcess freezes the leading process with a batch on its way to Redis. A second process takes over within 10 s, and what the first one does when
// it wakes changes nothing (G3; F21). Then leaders are killed, and the process that stands by leads within 2 s.
func TestFrozenProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// An own server: the log of other tests would move the idle checkpoint.
	server := testenv.PostgresServer(t, testenv.PGOptions{})
	w.pg = server.Database(t)
	w.db = w.pg.Conn(t)
	testenv.LoadSchema(t, w.pg, testenv.Schema2026)
	testenv.AddTeam(t, w.pg, 1, nil)
	testenv.AddFlag(t, w.pg, 1, "flag", `{}`, nil)
	wire := testenv.Proxy(t, w.redis.Addr)
	first := w.run(t, "REPLICATOR_REDIS_URL="+wire.URL(w.redis.URL))
	w.waitEqual(t)
	second := w.run(t)
	second.waitRole(t, replication.RoleStandby)
	if err := first.plays(t.Context(), replication.RoleLeader); err != nil {
		t.Error(err)
	}

	wire.Stall()
	w.exec(t, "UPDATE posthog_featureflag SET name = 'written by the frozen one'")
	stalled := time.Now()
	testenv.Eventually(t, settle, func() error { // the batch is on the wire by then, unless a heartbeat that hangs there came first
		if s, err := first.status(t.Context()); err != nil || s.LagBytes == 0 && time.Since(stalled) < 3*time.Second {
			return fmt.Errorf("the change is not known yet (%v)", err)
		}
		return nil
	})
	first.Signal(t, syscall.SIGSTOP)
	frozen := time.Now()
	w.exec(t, "UPDATE posthog_featureflag SET name = 'written meanwhile'")
	second.waitRole(t, replication.RoleLeader)
	w.waitEqual(t)
	took := time.Since(frozen)
	if took > 10*time.Second {
		t.Errorf("the cache is equal %s after the freeze", took)
	}
	w.exec(t, "UPDATE posthog_featureflag SET active = NOT active")
	w.waitEqual(t)

	before := w.quiet(t)
	wire.Restore() // the batch reaches Redis
	first.Signal(t, syscall.SIGCONT)
	first.waitRole(t, replication.RoleStandby)
	if after := w.quiet(t); after != before {
		t.Errorf("the cache changed\nfrom %s\nto   %s", before, after)
	}
	if err := second.plays(t.Context(), replication.RoleLeader); err != nil {
		t.Error(err)
	}
	fenced := false
	for _, line := range first.Logs() {
		fenced = fenced || strings.Contains(line, "fenced")
	}
	t.Logf("equal %s after the freeze; the woken process was told so by Redis: %t", took.Round(time.Millisecond), fenced)
	w.killLeaders(t, second, first)
}

// killLeaders kills the leader again and again and has a new process stand by.
func (w *world) killLeaders(t *testing.T, leader, standby *runner) {
	t.Helper()
	var took []time.Duration
	for i := range 4 {
		w.exec(t, "UPDATE posthog_featureflag SET version = $1", i)
		leader.Kill(t)
		killed := time.Now()
		w.exec(t, "UPDATE posthog_featureflag SET name = $1", fmt.Sprint("after kill ", i))
		standby.waitRole(t, replication.RoleLeader)
		w.waitEqual(t)
		took = append(took, time.Since(killed).Round(time.Millisecond))
		leader, standby = standby, w.run(t)
		standby.waitRole(t, replication.RoleStandby)
	}
	t.Logf("equal after each kill: %v", took)
	if slices.Sort(took); took[1] > 2*time.Second { // a busy machine may spoil some
		t.Errorf("equal after each kill: %v, want 2 s", took)
	}
}
