package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// copyOwned copies a directory with its owners.
func copyOwned(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copying %s: %v: %s", from, err, out)
	}
	t.Cleanup(func() { _ = os.RemoveAll(to) }) // it lies below what the server removes
}

// fill writes log to a database that nobody replicates.
func fill(s *scene, megabytes int) {
	s.t.Helper()
	s.exec("INSERT INTO noise SELECT repeat('x', 8000) FROM generate_series(1, $1)", megabytes*128)
}

// neighbour is another database of the same server.
func neighbour(t *testing.T, pg *testenv.PGServer) *scene {
	t.Helper()
	other := &scene{t: t, postgres: pg.Database(t).URL}
	t.Cleanup(other.hangUp)
	other.exec("CREATE TABLE noise (x text)")
	other.exec("ALTER TABLE noise ALTER x SET STORAGE EXTERNAL")
	return other
}

const retained = "SELECT (pg_current_wal_lsn() - restart_lsn)::bigint FROM pg_replication_slots WHERE slot_name = 'everflag'"

// G5, F12, F22, F67: while Redis is away, another database of the server writes far more log than may be retained. The log is given back, Postgres shuts down
// within 2 s at any time, and the return of Redis is a reconcile.
func TestRedisAwayWhileOthersWrite(t *testing.T) {
	t.Parallel()
	const limit, written, step = 64, 320, 32
	s, pg, rd := plain(t, testenv.PGOptions{Conf: map[string]string{"max_wal_size": "64MB", "min_wal_size": "32MB"}}, testenv.RedisOptions{})
	other := neighbour(t, pg)
	r := s.replicator(fmt.Sprintf("REPLICATOR_MAX_RETAINED_WAL=%dMiB", limit))
	s.waitEqual()
	d := s.decide()
	rd.Kill(t)
	s.exec("UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-0'") // it cannot be applied, so it holds the slot
	most := int64(0)
	for range written / step {
		fill(other, step)
		testenv.Eventually(t, settle, func() error { // one step beyond the limit at most
			now := value[int64](s, retained)
			most = max(most, now)
			if now > (limit+step)<<20 {
				return fmt.Errorf("%d MiB are retained", now>>20)
			}
			return nil
		})
	}
	t.Logf("%d MiB written, at most %d MiB retained at a look, %d MiB in the end", written, most>>20, value[int64](s, retained)>>20)
	if st := r.status(); !st.Released {
		t.Errorf("the status does not say that log was released: %+v", st)
	}
	s.hangUp()
	other.hangUp()
	began := time.Now()
	pg.Stop(t, "fast")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("Postgres took %v to shut down while Redis was away", took)
	}
	pg.Start(t)
	rd.Start(t)
	testenv.Eventually(t, settle, func() error {
		if r.reconciles() < 2 {
			return errors.New("no reconcile")
		}
		return nil
	})
	s.arrives()
	d.noticedNothing(s)
}

// F63: the server removes log that the slot still needed, while the replicator works and Redis is away.
func TestSlotLostUnderTheReplicator(t *testing.T) {
	t.Parallel()
	s, pg, rd := plain(t, testenv.PGOptions{Conf: map[string]string{
		"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB",
	}}, testenv.RedisOptions{Process: true})
	other := neighbour(t, pg)
	r := s.replicator("REPLICATOR_MAX_RETAINED_WAL=0")
	s.waitEqual()
	d := s.decide()
	rd.Freeze(t)
	s.exec("UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-0'")
	testenv.Eventually(t, settle, func() error {
		fill(other, 16)
		other.exec("SELECT pg_switch_wal()")
		other.exec("CHECKPOINT")
		if state := value[string](s, "SELECT coalesce((SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'everflag'), 'gone')"); state != "lost" {
			return fmt.Errorf("the slot is %s", state)
		}
		return nil
	})
	rd.Thaw(t)
	r.reconciledFor("slot is lost")
	s.arrives()
	d.noticedNothing(s)
}

// F63: Postgres 18 gives up slots that nobody used for a while.
func TestIdleSlotTimesOut(t *testing.T) {
	t.Parallel()
	s, _, _ := plain(t, testenv.PGOptions{Version: "18", Conf: map[string]string{"idle_replication_slot_timeout": "1s"}}, testenv.RedisOptions{})
	r := s.replicator()
	s.waitEqual()
	r.stop()
	s.exec("UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-0'")
	testenv.Eventually(t, settle, func() error {
		s.exec("CHECKPOINT")
		reason := value[string](s, "SELECT coalesce(invalidation_reason, '') FROM pg_replication_slots WHERE slot_name = 'everflag'")
		if reason != "idle_timeout" {
			return fmt.Errorf("the slot is not given up: %q", reason)
		}
		return nil
	})
	r = s.replicator()
	r.reconciledFor("idle_timeout")
	s.arrives()
}

// F21: two replicators are restarted one after the other, under load: the other one leads meanwhile, and nothing is lost, shown twice or reconciled.
func TestReplicatorsRollingRestart(t *testing.T) {
	t.Parallel()
	s, _, _ := plain(t, testenv.PGOptions{}, testenv.RedisOptions{})
	leader := s.replicator()
	leader.is("leader")
	s.waitEqual()
	other := s.replicator()
	other.is("standby")
	d, l := s.decide(), s.load()
	everyone := []*replicator{leader, other}
	for range 4 {
		l.more(50)
		for r, want := range map[*replicator]string{leader: "leader since", other: "standby since"} {
			testenv.Eventually(t, settle, func() error {
				if out, code := s.command(r, "status"); code != 0 || !strings.Contains(out, want) {
					return fmt.Errorf("status ends with %d, wanted %q: %s", code, want, out)
				}
				return nil
			})
		}
		leader.stop()
		began := time.Now()
		other.is("leader")
		t.Logf("the other one led after %v", time.Since(began).Round(time.Millisecond))
		leader, other = other, s.replicator()
		other.is("standby")
		everyone = append(everyone, other)
	}
	l.more(20)
	l.stop()
	s.waitEqual()
	d.noticedNothing(s)
	for i, r := range everyone {
		if n := r.reconciles(); n > 0 && i > 0 {
			t.Errorf("replicator %d reconciled %d times", i, n)
		}
	}
	s.changesOnce()
}

// changesOnce wants each position to change a team once, and positions to grow.
func (s *scene) changesOnce() {
	s.t.Helper()
	entries, err := s.cache.XRange(s.t.Context(), "{everflag}:changes", "-", "+").Result()
	if err != nil || len(entries) == 0 {
		s.t.Fatalf("%d changes (%v)", len(entries), err)
	}
	last, seen := "", map[string]bool{}
	for _, e := range entries {
		team, version := fmt.Sprint(e.Values["team"]), fmt.Sprint(e.Values["version"])
		if _, position, found := strings.Cut(version, ":"); !found {
			continue // not of a team
		} else if id := team + " " + position; seen[id] || position < last {
			s.t.Errorf("team %s is changed at %s again, after %s", team, position, last)
		} else {
			seen[id], last = true, position
		}
	}
}

// F10, F32, F63: what would hurt is refused with a remedy.
func TestDangerousConfigurations(t *testing.T) {
	t.Parallel()
	s, pg, _ := plain(t, testenv.PGOptions{}, testenv.RedisOptions{})
	r := s.replicator()
	s.waitEqual()
	s.exec("SELECT pg_create_logical_replication_slot('foreign_one', 'test_decoding')")
	foreign := s.replicator("REPLICATOR_SLOT=foreign_one", "REPLICATOR_KEY_PREFIX=other")
	if code := foreign.Wait(t); code == 0 || len(foreign.said("test_decoding", "--slot")) == 0 {
		t.Errorf("a slot of another plugin: exit code %d\n%s", code, strings.Join(foreign.Logs(), "\n"))
	}
	second := newScene(t, pg.Database(t), s.redis, s.cache)
	intruder := second.replicator("REPLICATOR_SLOT=everflag_second")
	if code := intruder.Wait(t); code == 0 || len(intruder.said("--key-prefix")) == 0 {
		t.Errorf("a second database on one prefix: exit code %d\n%s", code, strings.Join(intruder.Logs(), "\n"))
	}
	s.arrives()
	if r.reconciles() != 1 || len(r.said("no longer ours")) > 0 {
		t.Errorf("%d reconciles, want only the first: nobody else may write\n%s", r.reconciles(), strings.Join(r.Logs(), "\n"))
	}
	r.Kill(t)
	second.replicator("REPLICATOR_SLOT=everflag_second") // now nobody is in the way
	second.waitEqual()
}
