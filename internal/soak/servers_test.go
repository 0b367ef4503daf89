package soak

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/testenv"
)

// redisServers are the Redis in use and one that can take its place.
type redisServers struct {
	inUse, spare *testenv.RedisInstance // the spare runs during a failover only, and is nil before the first
	addr         atomic.Pointer[string] // of the one in use
	dirs         map[*testenv.RedisInstance]string
	copied       string         // a dump, copied now and then
	toReplica    *testenv.Flaky // between the server in use and its replica
}

// openRedis starts the first server. The harness has its own way to the server in use, whatever it is.
func (a *arena) openRedis() {
	s := &a.servers
	s.dirs, s.copied = map[*testenv.RedisInstance]string{}, filepath.Join(a.t.TempDir(), "copied.rdb")
	s.inUse = a.newRedis()
	s.addr.Store(&s.inUse.Addr)
	s.toReplica = testenv.Proxy(a.t, s.inUse.Addr)
	options, err := redis.ParseURL(s.inUse.URL)
	a.must(err)
	options.ContextTimeoutEnabled = true
	options.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, *s.addr.Load())
	}
	a.cache = redis.NewClient(options)
	a.t.Cleanup(func() { _ = a.cache.Close() }) // nobody waits for it any more
}

func (a *arena) newRedis() *testenv.RedisInstance {
	server := testenv.RedisServer(a.t, testenv.RedisOptions{Process: true})
	client := server.Client(a.t)
	a.servers.dirs[server] = client.ConfigGet(a.t.Context(), "dir").Val()["dir"]
	a.must(client.Close())
	return server
}

// dump is the file of the Redis in use.
func (a *arena) dump() string { return a.dumpOf(a.servers.inUse) }

func (a *arena) dumpOf(server *testenv.RedisInstance) string {
	return filepath.Join(a.servers.dirs[server], "dump.rdb")
}

func (a *arena) save() { a.redis("SAVE") }

func (a *arena) copyDump() {
	if content, err := os.ReadFile(a.dump()); err == nil {
		a.must(os.WriteFile(a.servers.copied, content, 0o644))
	}
}

// restore kills Redis and starts it from the copy: it has forgotten what came later, and says nothing of it.
func (a *arena) restore() (heal func()) {
	a.servers.inUse.Kill(a.t)
	content, err := os.ReadFile(a.servers.copied)
	a.must(err)
	a.must(os.WriteFile(a.dump(), content, 0o644))
	return func() { a.goBack(func() { a.servers.inUse.Start(a.t) }) }
}

// goBack replaces the cache by an older one: Redis shows older states from now on, until the leader has noticed.
func (a *arena) goBack(replace func()) {
	a.replaced.Store(true)
	a.watcher.forget(replace)
}

// loseDump makes the next start of Redis an empty one.
func (a *arena) loseDump() { a.must(os.Remove(a.dump()), os.ErrNotExist) }

// killRedisOften kills Redis and starts it again with what it had a moment ago, which now and then is less than what was acknowledged.
func (a *arena) killRedisOften() (heal func()) {
	for range 2 + a.rng.IntN(3) {
		a.save()
		a.copyDump()
		a.restore()()
		a.pause(time.Duration(a.rng.Int64N(int64(300 * time.Millisecond))))
	}
	return nothing
}

// startSpare starts the other server, empty.
func (a *arena) startSpare() {
	s := &a.servers
	if s.spare == nil {
		s.spare = a.newRedis()
		return
	}
	a.must(os.Remove(a.dumpOf(s.spare)), os.ErrNotExist)
	s.spare.Start(a.t)
}

// swap kills the server in use and leads everybody to the other one.
func (a *arena) swap() {
	s := &a.servers
	s.inUse.Kill(a.t)
	s.inUse, s.spare = s.spare, s.inUse
	s.addr.Store(&s.inUse.Addr)
	for _, n := range a.nodes {
		n.toRedis.Retarget(s.inUse.Addr)
	}
	for _, f := range a.fronts {
		f.network.Retarget(s.inUse.Addr)
	}
}

// swapRedis puts an empty server where the cache was.
func (a *arena) swapRedis() (heal func()) {
	a.startSpare()
	a.swap()
	return nothing
}

// failOver makes a replica the server that counts, after it has not heard of its master for a while.
func (a *arena) failOver() (heal func()) {
	a.startSpare()
	s := &a.servers
	spare := s.spare.Client(a.t)
	s.toReplica.Restore()
	s.toReplica.Retarget(s.inUse.Addr)
	host, port, err := net.SplitHostPort(s.toReplica.Addr)
	a.must(err)
	a.must(spare.Do(a.t.Context(), "REPLICAOF", host, port).Err())
	testenv.Eventually(a.t, settle, func() error {
		info, err := spare.Info(a.t.Context(), "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = errors.New(info)
		}
		return err
	})
	s.toReplica.Stall()
	return func() {
		a.must(spare.Do(a.t.Context(), "REPLICAOF", "NO", "ONE").Err())
		a.must(spare.Close())
		s.toReplica.Cut()
		a.goBack(a.swap)
	}
}

// behindTheStream lets a decide process hear nothing while the stream goes on and is then lost.
func (a *arena) behindTheStream(command ...any) (heal func()) {
	f := a.front()
	f.network.Stall()
	return func() {
		a.redis(command...)
		f.network.Restore()
	}
}

// login is the role of the replicators, whose password changes.
type login struct {
	url      string
	file     string // of passwords
	password int    // the serial of the present one
}

func (a *arena) openLogin() {
	u, err := url.Parse(a.db.URL)
	a.must(err)
	u.User = url.User("replicator")
	a.role.file = filepath.Join(a.t.TempDir(), "passwords")
	a.role.url = u.String() + "&passfile=" + url.QueryEscape(a.role.file)
	a.db.Exec(a.t, "CREATE ROLE replicator SUPERUSER LOGIN PASSWORD 'p0'")
	a.tellPassword()
}

func (a *arena) tellPassword() {
	a.must(os.WriteFile(a.role.file, fmt.Appendf(nil, "*:*:*:replicator:p%d\n", a.role.password), 0o600))
}

// rotatePassword locks the replicators out until they are told the new password.
func (a *arena) rotatePassword() (heal func()) {
	a.role.password++
	a.must(a.sql(fmt.Sprintf("ALTER ROLE replicator PASSWORD 'p%d'", a.role.password)))
	a.must(a.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'replicator'"))
	return a.tellPassword
}

// loseSlot lets the server drop the log that the replicators have not read, because they do not work, and with it the slot.
func (a *arena) loseSlot() (heal func()) {
	revive := a.freezeAll()
	if a.rng.IntN(2) == 0 {
		revive()
		for _, n := range a.nodes {
			n.kill()
		}
		revive = a.startAll
	}
	a.must(a.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'"))
	a.must(a.sql("SELECT pg_reload_conf()"))
	testenv.Eventually(a.t, settle, func() error {
		a.must(a.sql("SELECT pg_logical_emit_message(false, 'soak', 'noise'), pg_switch_wal()"))
		a.must(a.sql("CHECKPOINT"))
		var status string
		ctx, cancel := context.WithTimeout(a.t.Context(), 3*time.Second)
		defer cancel()
		a.load.Lock()
		defer a.load.Unlock()
		if err := a.load.caughtUp(ctx); err != nil {
			return err
		}
		a.must(a.load.db.QueryRow(ctx, "SELECT coalesce(min(wal_status), 'none') FROM pg_replication_slots WHERE slot_name = $1", slotName).Scan(&status))
		if status != "lost" && status != "none" {
			return fmt.Errorf("the slot is %s", status)
		}
		return nil
	})
	return func() {
		a.must(a.sql("ALTER SYSTEM RESET max_slot_wal_keep_size"))
		a.must(a.sql("SELECT pg_reload_conf()"))
		revive()
	}
}

func (a *arena) freezeAll() (heal func()) {
	thaw := []func(){a.freeze(a.nodes[0]), a.freeze(a.nodes[1])}
	return func() { thaw[0](); thaw[1]() }
}

func (a *arena) startAll() {
	for _, n := range a.nodes {
		n.start("")
	}
}
