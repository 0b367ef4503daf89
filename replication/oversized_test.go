package replication

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/change"
)

// A transaction that is too large is told of before its end. What a copy holds of it is left unread while the copy is read, and statuses go on.
func TestReceiverForeseesLargeTransaction(t *testing.T) {
	t.Parallel()
	cfg := Defaults()
	cfg.MaxTxBytes = 100
	row := insertMsg("1", strings.Repeat("x", 60), null, "{}", "1", "f").xlog()
	receiving(t, cfg, func(t *testing.T, v *receiver, w *scriptedWAL) {
		w.incoming <- flagRelation().xlog()
		w.incoming <- beginMsg(7, 100).xlog()
		w.incoming <- row
		synctest.Wait()
		if len(v.foresight.found) != 0 || v.passing(200) {
			t.Error("told of a transaction that may still be small enough")
		}
		w.incoming <- row
		synctest.Wait()
		found := <-v.foresight.found
		if found.commit != 100 || !strings.Contains(found.reason, "transaction 7 changes more than 100 bytes") {
			t.Errorf("told of %+v", found)
		}
		if !v.passing(101) || v.passing(100) {
			t.Error("a copy of a point behind the commit holds the transaction, others do not")
		}

		v.rest(100) // the copy of an earlier point
		w.incoming <- row
		synctest.Wait()
		if len(w.incoming) != 0 {
			t.Error("what the copy does not hold is left unread")
		}
		v.rest(101)
		synctest.Wait()
		w.last()
		w.incoming <- row
		w.incoming <- commitMsg(100, 140).xlog()
		wait(10 * time.Minute)
		if len(w.incoming) != 2 || len(w.statuses) < 500 {
			t.Errorf("%d messages are left and %d statuses were sent in ten minutes", len(w.incoming), len(w.statuses))
		}
		v.rest(0)
		synctest.Wait()
		items := v.queue.take(10, 1<<20, ^change.LSN(0))
		if len(items) != 1 || items[0].tx.Reconcile == "" || items[0].end() != 140 || v.passing(200) {
			t.Errorf("queued %+v", items)
		}
		if len(v.foresight.found) != 0 {
			t.Error("told twice")
		}
	})
}

// G5: log that has to be given back is received although a copy holds it.
func TestReceiverReleasesWhileItRests(t *testing.T) {
	t.Parallel()
	cfg := Defaults()
	cfg.MaxTxBytes = 10
	receiving(t, cfg, func(t *testing.T, v *receiver, w *scriptedWAL) {
		for _, m := range []wire{flagRelation(), beginMsg(7, 100), insertMsg("1", "a", null, "{}", "1", "f")} {
			w.incoming <- m.xlog()
		}
		synctest.Wait()
		v.rest(200)
		synctest.Wait()
		w.incoming <- commitMsg(100, 140).xlog()
		wait(time.Minute)
		if len(w.incoming) != 1 {
			t.Fatal("not resting")
		}
		v.release()
		wait(2 * time.Second)
		if s := w.last(); s.position != 140 {
			t.Errorf("acknowledged %s", s.position)
		}
	})
}

// The foreseen end of a transaction sets the marker of a cache that is trusted and has nothing else to wait for.
func TestLeaderForesees(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		with func(l *leader)
		mark bool
	}{
		"trusted":                 {func(*leader) {}, true},
		"in the cache by now":     {func(l *leader) { l.checkpoint = 101 }, false},
		"a reconcile is due":      {func(l *leader) { l.pending = "rebuild" }, false},
		"a marker is to be set":   {func(l *leader) { l.mark = "rebuild" }, false},
		"not trusted":             {func(l *leader) { l.trusted = false }, false},
		"the cache is away":       {func(l *leader) { l.outage = true }, false},
		"the lead is not taken":   {func(l *leader) { l.acquired = false }, false},
		"the first of everything": {func(l *leader) { l.checkpoint = 100 }, true},
	} {
		sink := newFakeSink(t, newFakeCache())
		l := &leader{r: &Replicator{metrics: newMetrics(prometheus.NewRegistry(), new(atomic.Int64))}, log: zap.NewNop(), sink: sink, acquired: true, trusted: true, checkpoint: 90}
		test.with(l)
		before := l.pending
		if err := l.foresee(t.Context(), oversized{commit: 100, reason: "large"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if marked := sink.position().Reconcile != ""; marked != test.mark || (l.pending != before) != test.mark {
			t.Errorf("%s: marked %t, pending %q", name, marked, l.pending)
		}
	}
}

// G1, G4: the reconcile that a large transaction calls for overlaps with its receipt, whatever else is written meanwhile.
func TestLargeTransactionIsForeseen(t *testing.T) {
	t.Parallel()
	b := small(t)
	b.cfg.MaxTxBytes = 10_000
	b.neverAhead()
	b.start()
	b.settled()
	var early atomic.Int32
	b.sink.hook(func(op string) (bool, error) {
		if op == "mark" {
			early.Add(1)
		}
		return true, nil
	})
	for round := range 3 {
		b.exec("INSERT INTO posthog_cohort (team_id, name, filters) SELECT 1, 'c', to_jsonb(repeat('z', 500)) FROM generate_series(1, 20000)")
		for range 20 {
			b.exec("UPDATE posthog_featureflag SET active = NOT active")
		}
		if round == 1 {
			b.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL", b.cfg.Slot)
		}
		b.historyHas("changes more than")
		b.equal()
	}
	if early.Load() == 0 {
		t.Errorf("nothing was foreseen: %s", strings.Join(b.sink.history(), "; "))
	}
}
