package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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

// retainedBytes is the log that the server keeps for the slot.
const retainedBytes = "SELECT coalesce(max(pg_current_wal_flush_lsn() - restart_lsn), 0)::bigint FROM pg_replication_slots WHERE slot_name = 'everflag'"

// mostRetained looks all the time, until it is asked for the largest amount of retained log.
func (s *scene) mostRetained() (most func() int64) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	conn, err := pgx.Connect(ctx, s.postgres)
	if err != nil {
		s.t.Fatal(err)
	}
	var watching sync.WaitGroup
	largest := int64(0)
	watching.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			var now int64
			if err := conn.QueryRow(ctx, retainedBytes).Scan(&now); err != nil && ctx.Err() == nil {
				s.t.Errorf("looking at the slot: %v", err)
				return
			}
			largest = max(largest, now)
			<-tick.C
		}
	})
	stop := sync.OnceFunc(func() {
		cancel()
		watching.Wait()
		_ = conn.Close(context.WithoutCancel(ctx)) // it may have been cut in mid-query
	})
	s.t.Cleanup(stop)
	return func() int64 { stop(); return largest }
}

// G5, F12, F22, F67: while Redis is away, another database of the server writes far more log than may be retained, 40 MiB a second. What is retained stays
// below the limit; Postgres shuts down within 2 s, and the return of Redis is a reconcile.
func TestRedisAwayWhileOthersWrite(t *testing.T) {
	t.Parallel()
	const step = 4
	written, limit, pace := 384, 128, 100*time.Millisecond
	if large() {
		written, limit, pace = 8192, 1024, 0 // as fast as it can
	}
	for name, test := range map[string]struct {
		restart bool // the replicator starts when Redis is away already
		harm    func(t *testing.T, rd *testenv.RedisInstance)
		mend    func(t *testing.T, rd *testenv.RedisInstance)
	}{
		"killed":                 {harm: func(t *testing.T, rd *testenv.RedisInstance) { rd.Kill(t) }, mend: func(t *testing.T, rd *testenv.RedisInstance) { rd.Start(t) }},
		"away from the start":    {restart: true, harm: func(t *testing.T, rd *testenv.RedisInstance) { rd.Kill(t) }, mend: func(t *testing.T, rd *testenv.RedisInstance) { rd.Start(t) }},
		"frozen, without answer": {harm: func(t *testing.T, rd *testenv.RedisInstance) { rd.Freeze(t) }, mend: func(t *testing.T, rd *testenv.RedisInstance) { rd.Thaw(t) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pg, rd := plain(t, testenv.PGOptions{}, testenv.RedisOptions{Process: true})
			other := neighbour(t, pg)
			setting := fmt.Sprintf("REPLICATOR_MAX_RETAINED_WAL=%dMiB", limit)
			r := s.replicator(setting)
			s.waitEqual()
			d := s.decide()
			reconciles := r.reconciles()
			if test.restart {
				r.stop()
				reconciles = 0
			}
			test.harm(t, rd)
			if test.restart {
				r = s.replicator(setting)
				r.is("leader")
			}
			s.exec("UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-0'") // it cannot be applied, so it holds the slot
			testenv.Eventually(t, settle, func() error {
				if r.status().CacheError == "" {
					return errors.New("nobody knows that Redis is away")
				}
				return nil
			})
			most, began := s.mostRetained(), time.Now()
			for n := range written / step {
				fill(other, step)
				other.exec("TRUNCATE noise") // its log remains
				pass(t, time.Until(began.Add(time.Duration(n)*pace)))
			}
			took, peak := time.Since(began), most()
			t.Logf("%d MiB written in %v, at most %d MiB retained, %d MiB in the end", written, took.Round(time.Millisecond), peak>>20,
				value[int64](s, retainedBytes)>>20)
			if peak > int64(limit)<<20 {
				t.Errorf("%d MiB were retained, the limit is %d MiB", peak>>20, limit)
			}
			if st := r.status(); !st.Released {
				t.Errorf("the status does not say that log was released: %+v", st)
			}
			s.hangUp()
			other.hangUp()
			began = time.Now()
			pg.Stop(t, "fast")
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("Postgres took %v to shut down while Redis was away", took)
			}
			pg.Start(t)
			test.mend(t, rd)
			testenv.Eventually(t, settle, func() error {
				if r.reconciles() == reconciles {
					return errors.New("no reconcile")
				}
				return nil
			})
			s.arrives()
			d.noticedNothing(s)
		})
	}
}

// G5, F48: the publication is dropped while Redis is away. The slot can never be read again, and no session comes to stream; it must not keep log until
// Redis returns.
func TestPublicationDroppedWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	const step, written, limit = 4, 384, 128
	s, pg, rd := plain(t, testenv.PGOptions{}, testenv.RedisOptions{Process: true, Conf: map[string]string{"appendonly": "yes", "appendfsync": "always"}})
	other := neighbour(t, pg)
	r := s.replicator(fmt.Sprintf("REPLICATOR_MAX_RETAINED_WAL=%dMiB", limit))
	s.waitEqual()
	d := s.decide()
	rd.Kill(t)
	testenv.Eventually(t, settle, func() error {
		if r.status().CacheError == "" {
			return errors.New("nobody knows that Redis is away")
		}
		return nil
	})
	s.exec("DROP PUBLICATION everflag")
	s.exec("UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-0'") // it cannot be decoded
	most := s.mostRetained()
	for range written / step {
		fill(other, step)
		other.exec("TRUNCATE noise") // its log remains
		pass(t, 50*time.Millisecond)
	}
	peak := most()
	t.Logf("at most %d MiB retained", peak>>20)
	if peak > limit<<20 {
		t.Errorf("%d MiB were retained, the limit is %d MiB", peak>>20, limit)
	}
	d.noticedNothing(s)
	rd.Start(t)
	r.reconciledFor("the replication slot is missing")
	s.arrives()
	d.noticedNothing(s)
}

// G5, F27, F67: the tables change so that nobody may read the slot until somebody acts. It must not keep log for so long, though Redis is there, and so is the replicator.
func TestSlotThatNobodyReads(t *testing.T) {
	t.Parallel()
	const limit, written = 64, 96
	s, pg, _ := plain(t, testenv.PGOptions{}, testenv.RedisOptions{})
	other := neighbour(t, pg)
	first := s.replicator()
	s.waitEqual()
	first.stop()
	r := s.replicator("REPLICATOR_NO_SETUP=true", fmt.Sprintf("REPLICATOR_MAX_RETAINED_WAL=%dMiB", limit))
	s.arrives()
	d := s.decide()
	s.exec("CREATE TABLE posthog_tag (id uuid PRIMARY KEY, name varchar(255) NOT NULL, team_id integer NOT NULL)")
	testenv.Eventually(t, settle, func() error {
		if st := r.status(); !strings.Contains(st.LastError, "ALTER PUBLICATION") {
			return fmt.Errorf("nothing is said of the table that the publication lacks: %+v", st)
		}
		return nil
	})
	fill(other, written)
	testenv.Eventually(t, settle, func() error {
		if kept := value[int64](s, retainedBytes); kept > limit<<20 {
			return fmt.Errorf("%d MiB are retained, the limit is %d MiB", kept>>20, limit)
		}
		return nil
	})
	s.exec("UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-0'")
	s.exec("ALTER PUBLICATION everflag ADD TABLE ONLY posthog_tag")
	r.reconciledFor("slot is missing")
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
		for r, want := range map[*replicator]string{leader: "leader for", other: "standby for"} {
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
