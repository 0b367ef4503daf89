package replication

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// F21, F20: of two replicators one leads; the other takes over when the slot comes free.
func TestStandby(t *testing.T) {
	t.Parallel()
	b := small(t)
	first := b.start()
	b.equal()
	second := b.startWith(b.cfg, newFakeSink(t, b.sink.cache).sharing(b.sink))
	b.role(second, RoleStandby)
	if _, err := second.Rebuild(t.Context()); !errors.Is(err, ErrNotLeading) {
		t.Errorf("a standby answered %v", err)
	}
	b.eventually(func() error {
		if !second.Status().Ready {
			return errors.New("the standby is not ready")
		}
		return nil
	})
	first.stop()
	b.role(second, RoleLeader)
	b.exec("UPDATE posthog_featureflag SET name = 'by the second'")
	b.equal()
	if n := len(b.sink.history()); n > 3 {
		t.Errorf("taking over reconciled: %s", strings.Join(b.sink.history(), "; "))
	}
}

// F73: who stands by says nothing of what it knew as the leader: its alerts would never end, since the other one mends what they tell of.
func TestStandbyForgetsItsLeadership(t *testing.T) {
	t.Parallel()
	cfg := Defaults()
	cfg.PostgresURL = "postgres://nobody"
	registry := prometheus.NewRegistry()
	r, err := New(cfg, nil, zap.NewNop(), registry)
	if err != nil {
		t.Fatal(err)
	}
	fresh := gathered(t, registry)
	r.setRole(RoleLeader, "")
	for _, gauge := range []prometheus.Gauge{
		r.metrics.lagBytes, r.metrics.lagSeconds, r.metrics.retained, r.metrics.queued, r.metrics.pending, r.metrics.drift,
	} {
		gauge.Set(7)
	}
	r.update(func(st *Status) {
		st.Reconcile, st.CacheError, st.Released, st.LagBytes, st.LagSeconds, st.RetainedWAL = &ReconcileStatus{}, "away", true, 7, 7, 7
	})
	r.setRole(RoleStandby, "")
	if st := r.Status(); st.Reconcile != nil || st.CacheError != "" || st.Released || st.LagBytes != 0 || st.LagSeconds != -1 || st.RetainedWAL != 0 {
		t.Errorf("the status is %+v", st)
	}
	fresh["everflag_replicator_lag_seconds"] = -1
	if diff := cmp.Diff(fresh, gathered(t, registry)); diff != "" {
		t.Errorf("the metrics are not those of a program that has just begun (-want +got):\n%s", diff)
	}
}

// gathered are all gauges.
func gathered(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	gauges := map[string]float64{}
	for _, f := range families {
		if g := f.GetMetric()[0].GetGauge(); g != nil {
			gauges[f.GetName()] = g.GetValue()
		}
	}
	return gauges
}

// F27, F21: a replicator that has never streamed waits, too, until it is told the password that its role was given meanwhile.
func TestStandbyOutlivesItsPassword(t *testing.T) {
	t.Parallel()
	t.Run("standby", func(t *testing.T) {
		t.Parallel()
		b := small(t)
		b.start()
		b.equal()
		cfg, rotate, tell := b.rotating()
		second := b.startWith(cfg, newFakeSink(t, b.sink.cache).sharing(b.sink))
		b.role(second, RoleStandby)
		rotate()
		b.lockedOut(second)
		tell("second")
		b.role(second, RoleStandby)
	})
	t.Run("without a cache since its start", func(t *testing.T) {
		t.Parallel()
		b := small(t)
		b.sink.hook(func(string) (bool, error) { return false, errFake })
		cfg, rotate, tell := b.rotating()
		r := b.startWith(cfg, b.sink)
		b.eventually(func() error {
			if text := r.Status().LastError; !strings.Contains(text, errFake.Error()) {
				return fmt.Errorf("the last error is %q", text)
			}
			return nil
		})
		rotate()
		b.lockedOut(r)
		tell("second")
		b.sink.hook(nil)
		b.equal()
	})
}

// role is one of this test's own.
func role(b *bench) string { return b.cfg.Slot }

// rotating returns settings with a role whose password changes, and what changes it and tells the replicator of it.
func (b *bench) rotating() (cfg Config, rotate func(), tell func(password string)) {
	b.t.Helper()
	b.exec("CREATE ROLE " + role(b) + " SUPERUSER LOGIN PASSWORD 'first'")
	b.t.Cleanup(func() { b.exec("DROP OWNED BY " + role(b)); b.exec("DROP ROLE " + role(b)) })
	u, err := url.Parse(b.db.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	file := filepath.Join(b.t.TempDir(), "passwords")
	tell = func(password string) {
		b.t.Helper()
		if err := os.WriteFile(file, []byte("*:*:*:"+role(b)+":"+password+"\n"), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	tell("first")
	u.User = url.User(role(b))
	cfg = b.cfg
	cfg.PostgresURL = u.String() + "&passfile=" + url.QueryEscape(file)
	return cfg, func() {
		b.exec("ALTER ROLE " + role(b) + " PASSWORD 'second'")
		b.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role(b))
	}, tell
}

func (b *bench) lockedOut(r *running) {
	b.t.Helper()
	b.eventually(func() error {
		if text := r.Status().LastError; !strings.Contains(text, "28P01") {
			return fmt.Errorf("the last error is %q", text)
		}
		return nil
	})
}

// F21: a leader that stands still loses its slot to the standby, and its writes are turned away when it wakes up.
func TestTakeoverFromFrozenLeader(t *testing.T) {
	t.Parallel()
	b := small(t)
	proxy := b.proxy()
	cfg := b.cfg
	cfg.TakeoverAfter, cfg.PeerTimeout = time.Second, time.Hour
	frozen := newFakeSink(t, b.sink.cache).sharing(b.sink)
	b.startWith(cfg, frozen)
	b.equal()
	cfg.PostgresURL = b.db.URL
	second := b.startWith(cfg, b.sink)
	b.role(second, RoleStandby)
	thaw := make(chan struct{})
	wakeUp := sync.OnceFunc(func() { close(thaw) })
	t.Cleanup(wakeUp)
	frozen.freeze(thaw)
	proxy.Stall()
	b.role(second, RoleLeader)
	b.exec("UPDATE posthog_featureflag SET name = 'by the second'")
	b.equal()
	wakeUp()
	proxy.Restore()
	b.exec("UPDATE posthog_featureflag SET name = 'still by the second'")
	b.equal()
	if second.Status().Role != RoleLeader {
		t.Error("the one that woke up leads again")
	}
}
