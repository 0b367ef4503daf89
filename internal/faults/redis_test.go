package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/testenv"
)

// switchboard is an address that leads to one server now and to another later, as a virtual address or a proxy does.
type switchboard struct {
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	target string
	open   []net.Conn
}

func newSwitchboard(t *testing.T, target string) *switchboard {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &switchboard{listener: listener, target: target}
	b.running.Go(b.accept)
	t.Cleanup(func() {
		_ = listener.Close() // nothing was written
		b.lead("")
		b.running.Wait()
	})
	return b
}

func (b *switchboard) url() string { return "redis://" + b.listener.Addr().String() }

func (b *switchboard) accept() {
	for {
		caller, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.connect(caller)
	}
}

func (b *switchboard) connect(caller net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	called, err := net.Dial("tcp", b.target)
	if err != nil {
		_ = caller.Close() // nobody is there
		return
	}
	b.open = append(b.open, caller, called)
	for _, pair := range [][2]net.Conn{{caller, called}, {called, caller}} {
		b.running.Go(func() {
			_, _ = io.Copy(pair[0], pair[1]) // one side hung up
			_ = errors.Join(pair[0].Close(), pair[1].Close())
		})
	}
}

// lead ends all connections; new ones are led to another server.
func (b *switchboard) lead(target string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.target = target
	for _, c := range b.open {
		_ = c.Close() // it may be closed
	}
	b.open = nil
}

// F9, F32, F33: the cache behind the address is suddenly another one: a replica that lagged, an old copy, an empty one. It is noticed, also while nothing is
// committed, and reconciled.
func TestSwappedRedis(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reason string
		busy   bool
		other  func(s *scene, rd *testenv.RedisInstance) *testenv.RedisInstance
	}{
		"lagging replica, busy": {"lost writes", true, laggingReplica},
		"lagging replica, idle": {"lost writes", false, laggingReplica},
		"old copy, idle":        {"", false, oldCopy},
		"empty, idle": {"the cache is empty", false, func(s *scene, _ *testenv.RedisInstance) *testenv.RedisInstance {
			return testenv.RedisServer(s.t, testenv.RedisOptions{})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pg, rd := testenv.PostgresServer(t, testenv.PGOptions{}), testenv.RedisServer(t, testenv.RedisOptions{Process: true})
			board := newSwitchboard(t, rd.Addr)
			s := newScene(t, pg.Database(t), board.url(), client(t, board.url(), ""))
			r := s.replicator()
			s.waitEqual()
			d := s.decide()
			other := test.other(s, rd)
			before := r.reconciles()
			if test.busy {
				l := s.load()
				l.more(30)
				board.lead(other.Addr)
				l.more(30)
				l.stop()
			} else {
				s.waitConfirmed()
				board.lead(other.Addr)
			}
			testenv.Eventually(t, settle, func() error {
				if r.reconciles() == before {
					return errors.New("no reconcile")
				}
				return nil
			})
			r.reconciledFor(test.reason)
			s.waitEqual()
			d.noticedNothing(s)
		})
	}
}

// waitConfirmed waits until the slot has confirmed what is committed now.
func (s *scene) waitConfirmed() {
	s.t.Helper()
	end := s.lsn("SELECT pg_current_wal_flush_lsn()::text") // what a look at a page leaves in the log behind that may not be flushed for long
	testenv.Eventually(s.t, settle, func() error {
		if at := s.lsn(confirmed); at < end {
			return fmt.Errorf("the slot has confirmed %s of %s", at, end)
		}
		return nil
	})
}

// laggingReplica is a replica that missed the last changes, and is a master now.
func laggingReplica(s *scene, rd *testenv.RedisInstance) *testenv.RedisInstance {
	replica := rd.Replica(s.t, testenv.RedisOptions{})
	c := replica.Client(s.t)
	s.arrives()
	if err := c.Do(s.t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		s.t.Fatal(err)
	}
	for range 5 {
		s.arrives()
	}
	return replica
}

// oldCopy is a server that was restored from a dump of the day before, so to speak: since then another replicator has taken the lead.
func oldCopy(s *scene, rd *testenv.RedisInstance) *testenv.RedisInstance {
	copied := rd.Replica(s.t, testenv.RedisOptions{})
	c := copied.Client(s.t)
	if err := c.Do(s.t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		s.t.Fatal(err)
	}
	if err := c.HSet(s.t.Context(), "{everflag}:meta", "epoch", "17", "owner", "somebody").Err(); err != nil {
		s.t.Fatal(err)
	}
	s.arrives()
	return copied
}

// F9, F32: Redis comes back with the dump of an earlier hour, under load.
func TestOldDumpRestored(t *testing.T) {
	t.Parallel()
	s, _, rd := plain(t, testenv.PGOptions{}, testenv.RedisOptions{Process: true})
	r := s.replicator()
	s.waitEqual()
	c := rd.Client(t)
	dir := c.ConfigGet(t.Context(), "dir").Val()["dir"]
	if err := c.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	d, l := s.decide(), s.load()
	l.more(100)
	rd.Kill(t)
	if _, err := os.Stat(filepath.Join(dir, "dump.rdb")); err != nil {
		t.Fatal(err)
	}
	rd.Start(t)
	r.reconciledFor("lost writes")
	l.more(50)
	l.stop()
	s.waitEqual()
	d.noticedNothing(s)
}

// F32, F36, G7: Redis restarts empty under load; readers notice nothing, and the cache is complete again in the time of one reconcile.
func TestRedisRestartsEmpty(t *testing.T) {
	t.Parallel()
	s, _, rd := plain(t, testenv.PGOptions{}, testenv.RedisOptions{})
	r := s.replicator()
	s.waitEqual()
	d, l := s.decide(), s.load()
	l.more(50)
	for range 3 {
		before := r.reconciles()
		rd.Kill(t)
		l.more(20)
		rd.Start(t)
		began := time.Now()
		testenv.Eventually(t, settle, func() error {
			complete, err := s.cache.HGet(t.Context(), "{everflag}:meta", "complete").Result()
			if err == nil && complete != "1" {
				err = fmt.Errorf("complete is %q", complete)
			}
			return err
		})
		t.Logf("complete %v after Redis was back", time.Since(began).Round(time.Millisecond))
		testenv.Eventually(t, settle, func() error {
			if n := r.reconciles() - before; n != 1 {
				return fmt.Errorf("%d reconciles, want one", n)
			}
			return nil
		})
		l.more(20)
	}
	l.stop()
	s.waitEqual()
	d.noticedNothing(s)
}

// F18, F19, F36, F75, S1, S2: Redis stands still for many times wal_sender_timeout. Neither connection is made anew all the time, nothing is lost, and the log
// stays short.
func TestFrozenRedisUnderLoad(t *testing.T) {
	t.Parallel()
	timeout, frozen := "2s", 9*time.Second
	if large() {
		timeout, frozen = "10s", 3*time.Minute
	}
	s, _, rd := plain(t, testenv.PGOptions{Conf: map[string]string{"wal_sender_timeout": timeout}}, testenv.RedisOptions{Process: true})
	r := s.replicator()
	s.waitEqual()
	d, l := s.decide(), s.load()
	l.more(50)
	const walsender = "SELECT coalesce(active_pid, 0) FROM pg_replication_slots WHERE slot_name = 'everflag'"
	pid, lines := value[int](s, walsender), len(r.Logs())
	connections := received(t, rd)
	rd.Freeze(t)
	pass(t, frozen)
	if now := value[int](s, walsender); now != pid {
		t.Errorf("the walsender was %d and is %d", pid, now)
	}
	if ends := r.metric("everflag_replicator_session_ends_total"); ends != 0 {
		t.Errorf("%v sessions with Postgres ended", ends)
	}
	if said := len(r.Logs()) - lines; said > 5 {
		t.Errorf("%d lines are logged meanwhile:\n%s", said, strings.Join(r.Logs()[lines:], "\n"))
	}
	rd.Thaw(t)
	l.more(20)
	l.stop()
	s.waitEqual()
	d.noticedNothing(s)
	if r.reconciles() != 1 {
		t.Errorf("%d reconciles, want only the first", r.reconciles())
	}
	// One attempt per time-out of a command and client, and the pools that are filled afterwards; the harness itself connects, too.
	made := received(t, rd) - connections
	t.Logf("%d connections to Redis during and after %v; %d transactions", made, frozen, l.committed.Load())
	if bound := 20 + 4*int(frozen.Seconds()); made > bound {
		t.Errorf("%d connections to Redis are a storm, want at most %d", made, bound)
	}
}

// received is the number of connections that a Redis was ever asked for.
func received(t *testing.T, rd *testenv.RedisInstance) (n int) {
	t.Helper()
	info := rd.Client(t).Info(t.Context(), "stats").Val()
	_, rest, _ := strings.Cut(info, "total_connections_received:")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// F36: Redis is killed and started again and again; each time, what was committed meanwhile is there within a second.
func TestRedisKillCycles(t *testing.T) {
	t.Parallel()
	cycles := 10
	if large() {
		cycles = 100
	}
	s, _, rd := plain(t, testenv.PGOptions{}, testenv.RedisOptions{Conf: map[string]string{"appendonly": "yes", "appendfsync": "always"}})
	r := s.replicator()
	s.waitEqual()
	d := s.decide()
	var took []time.Duration
	for i := range cycles {
		rd.Kill(t)
		s.exec("UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-0'")
		want := value[int](s, "SELECT version FROM posthog_featureflag WHERE key = 'flag-0'")
		id := value[int](s, "SELECT id FROM posthog_featureflag WHERE key = 'flag-0'")
		if i%2 == 1 { // long enough for the back-off to have grown
			pass(t, 400*time.Millisecond)
		}
		rd.Start(t)
		began := time.Now()
		testenv.Eventually(t, settle, func() error { return flagHas(t.Context(), s.cache, id, fmt.Sprintf(`"version":%d`, want)) })
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("%d cycles: the change was there after a median of %v, at most %v", cycles, took[cycles/2].Round(time.Millisecond), took[cycles-1].Round(time.Millisecond))
	if worst := took[cycles-1]; worst > time.Second {
		t.Errorf("once it took %v, want less than a second", worst)
	}
	s.waitEqual()
	d.noticedNothing(s)
	if r.reconciles() != 1 {
		t.Errorf("%d reconciles, want only the first: nothing was lost", r.reconciles())
	}
}

// flagHas looks for a text in the record of a flag of the first team.
func flagHas(ctx context.Context, cache redis.Cmdable, id int, text string) error {
	record, err := cache.HGet(ctx, "{everflag}:team:1", fmt.Sprint("flag:", id)).Result()
	if err == nil && !strings.Contains(record, text) {
		err = fmt.Errorf("%s lacks %s", record, text)
	}
	return err
}

// F33: with --wait-replicas a change is confirmed to Postgres only once a replica has it, so that the failover to it loses nothing.
func TestWaitForReplicasBeforeConfirming(t *testing.T) {
	t.Parallel()
	s, _, rd := plain(t, testenv.PGOptions{}, testenv.RedisOptions{Process: true})
	replica := rd.Replica(t, testenv.RedisOptions{})
	r := s.replicator("REPLICATOR_WAIT_REPLICAS=1")
	s.waitEqual()
	s.arrives()
	s.waitConfirmed()
	replica.Freeze(t)
	s.exec("UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-0'")
	change := s.lsn("SELECT pg_current_wal_insert_lsn()::text")
	testenv.Eventually(t, settle, func() error {
		if r.status().CacheError == "" {
			return errors.New("nothing is said of the missing replica")
		}
		return nil
	})
	if at := s.lsn(confirmed); at >= change {
		t.Errorf("the slot has confirmed %s, though no replica has the change that ends before %s", at, change)
	}
	replica.Thaw(t)
	s.waitConfirmed()
	s.waitEqual()
	if r.reconciles() != 1 {
		t.Errorf("%d reconciles, want only the first", r.reconciles())
	}
}

// F33: within --ack-delay, Postgres still has what a failover of Redis lost: the stream brings it again, without a reconcile.
func TestAckDelayBringsLostWritesAgain(t *testing.T) {
	t.Parallel()
	pg, rd := testenv.PostgresServer(t, testenv.PGOptions{}), testenv.RedisServer(t, testenv.RedisOptions{Process: true})
	board := newSwitchboard(t, rd.Addr)
	s := newScene(t, pg.Database(t), board.url(), client(t, board.url(), ""))
	r := s.replicator("REPLICATOR_ACK_DELAY=30s")
	s.waitEqual()
	replica := laggingReplica(s, rd)
	board.lead(replica.Addr)
	s.waitEqual()
	s.arrives()
	if r.reconciles() != 1 {
		t.Errorf("%d reconciles, want only the first:\n%s", r.reconciles(), strings.Join(r.said("reconcil"), "\n"))
	}
}
