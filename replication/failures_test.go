package replication

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/testenv"
)

// lsn is what the query returns.
func (b *bench) lsn(sql string, args ...any) change.LSN {
	b.t.Helper()
	lsn, err := change.ParseLSN(testenv.Value[string](b.t, b.db, sql, args...))
	if err != nil {
		b.t.Fatal(err)
	}
	return lsn
}

// walEnd is the end of the server's log.
func (b *bench) walEnd() change.LSN {
	b.t.Helper()
	return b.lsn("SELECT pg_current_wal_lsn()::text")
}

// confirmed is the position of the slot.
func (b *bench) confirmed() change.LSN {
	b.t.Helper()
	return b.lsn("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", b.cfg.Slot)
}

// confirms waits until the slot has confirmed the position.
func (b *bench) confirms(lsn change.LSN) {
	b.t.Helper()
	b.eventually(func() error {
		if at := b.confirmed(); at < lsn {
			return fmt.Errorf("the slot has confirmed %s, want %s", at, lsn)
		}
		return nil
	})
}

// logged waits for a line of the log.
func (b *bench) logged(message string) {
	b.t.Helper()
	b.eventually(func() error {
		if b.logs.FilterMessage(message).Len() == 0 {
			return fmt.Errorf("the log does not say %q", message)
		}
		return nil
	})
}

// proxy puts a proxy between the replicators to come and the server.
func (b *bench) proxy() *testenv.Flaky {
	b.t.Helper()
	address := net.JoinHostPort(b.conn.Config().Host, strconv.Itoa(int(b.conn.Config().Port)))
	proxy := testenv.Proxy(b.t, address)
	b.cfg.PostgresURL = proxy.URL(b.db.URL)
	return proxy
}

// historyHas waits until a mark or a reconcile names the reason.
func (b *bench) historyHas(reason string) {
	b.t.Helper()
	b.eventually(func() error {
		if history := strings.Join(b.sink.history(), "; "); !strings.Contains(history, reason) {
			return fmt.Errorf("history is %s, want %q", history, reason)
		}
		return nil
	})
}

// free waits until nobody uses the slot.
func (b *bench) free() {
	b.t.Helper()
	b.eventually(func() error {
		if testenv.Value[bool](b.t, b.db, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", b.cfg.Slot) {
			return errors.New("the slot is in use")
		}
		return nil
	})
}

// walsender waits for the process that sends the slot's log, and returns its id. On a busy machine the session before may just have ended.
func (b *bench) walsender() (pid int) {
	b.t.Helper()
	b.eventually(func() error {
		pid = testenv.Value[int](b.t, b.db, "SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots WHERE slot_name = $1", b.cfg.Slot)
		if pid == 0 {
			return errors.New("nobody reads the slot")
		}
		return nil
	})
	return pid
}

// role waits for the role.
func (b *bench) role(r *running, want Role) {
	b.t.Helper()
	b.eventually(func() error {
		if s := r.Status(); s.Role != want {
			return fmt.Errorf("role is %s: %s %s", s.Role, s.Detail, s.LastError)
		}
		return nil
	})
}

// F2, F7: after an orderly stop the slot stands where the cache does, so that nothing comes twice.
func TestStopConfirmsWhatIsApplied(t *testing.T) {
	t.Parallel()
	b := small(t)
	r := b.start()
	b.settled()
	for range 20 {
		b.exec("UPDATE posthog_featureflag SET active = NOT active WHERE id = 1")
	}
	b.equal()
	r.stop()
	if confirmed, checkpoint := b.confirmed(), b.sink.position().Checkpoint; confirmed != checkpoint {
		t.Errorf("the slot has confirmed %s, the cache holds %s", confirmed, checkpoint)
	}
}

// F6, F37, F4, F29: whatever fails, whether it took effect or not, comes again in order, and nothing is acknowledged before.
func TestSinkFailures(t *testing.T) {
	t.Parallel()
	b := small(t)
	b.neverAhead()
	var n atomic.Int64
	b.sink.hook(func(op string) (bool, error) {
		if op == "observe" { // it changes nothing
			return true, nil
		}
		switch n.Add(1) % 5 {
		case 1:
			return false, errFake
		case 3:
			return true, errFake // failed, but did persist
		}
		return true, nil
	})
	b.start()
	for i := range 300 {
		b.exec(fmt.Sprintf("UPDATE posthog_featureflag SET name = '%d' WHERE id = 1", i))
	}
	b.equal()
	b.exec("TRUNCATE posthog_experiment")
	b.equal()
}

// A cache whose answers are permanent errors ends a program that starts, and is waited for by one at work.
func TestPermanentSinkError(t *testing.T) {
	t.Parallel()
	b := small(t)
	refused := permanentError{errors.New("NOPERM")}
	b.sink.hook(func(string) (bool, error) { return false, refused })
	if err := b.start().wait(); !errors.Is(err, refused) {
		t.Errorf("Run returned %v", err)
	}
	b.sink.hook(nil)
	b.start()
	b.equal()
	b.sink.hook(func(string) (bool, error) { return false, refused })
	b.exec("DELETE FROM posthog_experiment")
	b.logged("the cache does not answer, trying again")
	b.sink.hook(nil)
	b.equal()
}

// F12, F13: while nothing concerns us, the slot follows the log of other tables.
func TestIdleSlotAdvances(t *testing.T) {
	t.Parallel()
	b := small(t)
	b.neverAhead()
	b.start()
	b.settled()
	b.exec("CREATE TABLE noise (x text)")
	b.exec("INSERT INTO noise SELECT repeat('x', 100) FROM generate_series(1, 10000)")
	b.confirms(b.walEnd())
}

// F8, F9, F32, F64, F66, G6: whatever is lost or replaced while the replicator is away ends in a reconcile.
func TestLostWhileAway(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reason string
		harm   func(b *bench)
	}{
		"cache flushed (F32)": {"the cache is empty", func(b *bench) {
			b.sink.edit(func(c *fakeCache) { c.teams, c.position = map[int64]map[string]fakeRecord{}, change.Position{} })
		}},
		"older cache restored (F9)": {"which the slot has confirmed", func(b *bench) {
			b.sink.edit(func(c *fakeCache) { c.position.Checkpoint -= 1000; delete(c.teams, 1) })
		}},
		"slot dropped (F64)": {"slot is missing", func(b *bench) {
			b.exec("SELECT pg_drop_replication_slot($1)", b.cfg.Slot)
		}},
		"slot created at a later position (F64)": {"which the slot has confirmed", func(b *bench) {
			b.exec("SELECT pg_drop_replication_slot($1)", b.cfg.Slot)
			b.exec("UPDATE posthog_featureflag SET name = 'unseen'")
			b.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", b.cfg.Slot)
		}},
		"slot moved by hand": {"which the slot has confirmed", func(b *bench) {
			b.exec("UPDATE posthog_featureflag SET name = 'unseen'")
			b.exec("SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", b.cfg.Slot)
		}},
		"publication dropped (F48)": {"without publication", func(b *bench) {
			b.exec("DROP PUBLICATION " + b.cfg.Publication)
			b.exec("UPDATE posthog_featureflag SET name = 'unseen'")
		}},
		"source restored from a backup (F66)": {"beyond the end of the log", func(b *bench) {
			b.sink.edit(func(c *fakeCache) { c.position.Checkpoint += 1 << 40; delete(c.teams, 1) })
		}},
		"failover (F66)": {"on timeline 1 after 7", func(b *bench) {
			b.sink.edit(func(c *fakeCache) { c.position.Source.Timeline = 7; delete(c.teams, 1) })
		}},
		"tables changed (F44)": {"tables were changed", func(b *bench) {
			b.exec("ALTER TABLE posthog_featureflag ADD COLUMN version integer DEFAULT 3")
		}},
		"crash during a reconcile (F69)": {"half done", func(b *bench) {
			b.sink.edit(func(c *fakeCache) { c.position.Reconcile = "half done"; delete(c.teams, 1) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := small(t)
			r := b.start()
			b.equal()
			r.stop()
			b.free()
			test.harm(b)
			if test.reason == "beyond the end of the log" {
				b.sink.edit(func(c *fakeCache) {
					c.onChange = func() { c.onChange = nil }
				})
				lowered := change.LSN(0)
				b.sink.hook(func(op string) (bool, error) {
					if op == "exact" && lowered == 0 { // the fake would take the copy for a step backwards
						lowered = 1
						b.sink.cache.position.Checkpoint = 1
					}
					return true, nil
				})
			}
			r = b.start()
			if name == "publication dropped (F48)" && b.version() >= 180000 { // it goes on without, and says nothing
				test.reason = "publication does not carry all tables"
			}
			b.historyHas(test.reason)
			b.equal()
			b.exec("UPDATE posthog_featureflag SET active = NOT active")
			b.equal()
			b.eventually(func() error { // told a moment after the cache has it
				if r.Status().Reconciled == nil {
					return errors.New("no reconcile is reported")
				}
				return nil
			})
		})
	}
}

// F10, F66: a cache that mirrors another cluster is not overwritten by mistake.
func TestOtherSourceIsRefused(t *testing.T) {
	t.Parallel()
	b := small(t)
	r := b.start()
	b.equal()
	r.stop()
	b.sink.edit(func(c *fakeCache) { c.position.Source.SystemID = "42" })
	if err := b.start().wait(); err == nil || !strings.Contains(err.Error(), "--allow-source-change") {
		t.Errorf("Run returned %v", err)
	}
	b.cfg.AllowSourceChange = true
	b.start()
	b.historyHas("another Postgres cluster")
	b.equal()
}

// F32: a cache that is flushed or taken over while the replicator works is noticed by the next write or beat.
func TestFencedWhileStreaming(t *testing.T) {
	t.Parallel()
	b := small(t)
	b.start()
	b.equal()
	b.sink.edit(func(c *fakeCache) {
		c.epoch, c.teams, c.position = c.epoch+7, map[int64]map[string]fakeRecord{}, change.Position{}
	})
	b.equal()
}

// F9, F32: a cache that comes back as another one after an outage is taken at once: it is not away any more, which a leader without a cache steps aside for.
func TestFencedAfterAnOutage(t *testing.T) {
	t.Parallel()
	b := small(t)
	b.start()
	b.equal()
	var away atomic.Bool
	away.Store(true)
	b.sink.hook(func(op string) (bool, error) {
		if away.Load() {
			return false, errFake
		}
		return true, nil
	})
	b.logged("the cache does not answer, trying again")
	b.sink.edit(func(c *fakeCache) { c.epoch, c.position.Checkpoint = c.epoch+7, 1 })
	away.Store(false)
	b.logged("the cache answers again") // before the session ends: without that the next one begins asideFor later
	b.historyHas("which the slot has confirmed")
	b.equal()
}

// F16, F20: a walsender that is ended, and a publication that is dropped under the stream.
func TestStreamEnds(t *testing.T) {
	t.Parallel()
	b := small(t)
	b.neverAhead()
	b.start()
	b.equal()
	for range 3 {
		b.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL", b.cfg.Slot)
		b.exec("UPDATE posthog_featureflag SET active = NOT active")
		b.equal()
	}
	b.exec("DROP PUBLICATION " + b.cfg.Publication)
	b.exec("UPDATE posthog_featureflag SET name = 'without publication'")
	b.equal()
	b.exec("UPDATE posthog_featureflag SET name = 'with publication'")
	b.equal()
}

// F17: a connection that swallows everything is given up.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	b := small(t)
	proxy := b.proxy()
	b.cfg.PeerTimeout = 1500 * time.Millisecond
	b.start()
	b.equal()
	proxy.HalfClose()
	b.logged("no session, trying again")
	b.exec("UPDATE posthog_featureflag SET name = 'unheard'")
	proxy.Restore()
	b.equal()
	proxy.Cut()
	b.exec("UPDATE posthog_featureflag SET name = 'cut'")
	proxy.Restore()
	b.equal()
}

// G5, F67: log is given back while the cache is away, also if it was away from the start, and a reconcile follows.
func TestRetainedLogIsBounded(t *testing.T) {
	t.Parallel()
	for _, fromStart := range []bool{false, true} {
		t.Run(fmt.Sprintf("from the start %t", fromStart), func(t *testing.T) {
			t.Parallel()
			b := small(t)
			b.cfg.MaxRetainedWAL = 1 << 20
			b.cfg.QueueBytes = 64 << 10
			r := b.start()
			b.equal()
			if fromStart {
				r.stop()
			}
			b.sink.hook(func(string) (bool, error) { return false, errFake })
			if fromStart {
				b.start()
			}
			for range 20 {
				b.exec("INSERT INTO posthog_cohort (team_id, filters) SELECT 1, to_jsonb(repeat(md5(i::text), 20)) FROM generate_series(1, 200) i")
			}
			end := b.walEnd()
			b.confirms(end - 1<<20)
			if at := b.sink.position().Checkpoint; at >= end {
				t.Errorf("the checkpoint moved to %s", at)
			}
			b.sink.hook(nil)
			b.equal()
			b.exec("DELETE FROM posthog_cohort")
			b.equal()
		})
	}
}

// F17, F75: the walsender stands still, and with it the slot: it cannot be ended. The stream goes on once it has come free, and the log is short until then.
func TestFrozenWalsender(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t, testenv.PGOptions{Process: true}) // a container has process ids of its own
	b := newBench(t, server.Database(t), smallSchema)
	b.cfg.PeerTimeout, b.cfg.TakeoverAfter = time.Second, time.Second
	r := b.start()
	b.equal()
	sender := b.walsender()
	if err := syscall.Kill(sender, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := sync.OnceFunc(func() { _ = syscall.Kill(sender, syscall.SIGCONT) }) // it may have ended
	t.Cleanup(goOn)
	b.exec("UPDATE posthog_featureflag SET name = 'meanwhile'")
	b.role(r, RoleStandby)
	lines := b.logs.Len()
	frozen := time.Now()
	b.eventually(func() error {
		if time.Since(frozen) < 8*time.Second {
			return errors.New("too early to tell")
		}
		return nil
	})
	if said := b.logs.Len() - lines; said > 2 {
		t.Errorf("%d lines are logged meanwhile", said)
		b.dumpLogs()
	}
	goOn()
	b.role(r, RoleLeader)
	b.equal()
	if n := len(b.sink.history()); n > 3 {
		t.Errorf("it was reconciled: %s", strings.Join(b.sink.history(), "; "))
	}
}
