package cachewriter

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap/zaptest"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/redisconn"
	"github.com/everflag/everflag/internal/testenv"
)

// own is a bundle on a server that the test may hurt.
func own(t *testing.T, options testenv.RedisOptions) (*bundle, *testenv.RedisInstance) {
	t.Helper()
	t.Parallel()
	server := testenv.RedisServer(t, options)
	b := &bundle{t: t, m: newModel(), prefix: "p", url: server.URL, redis: server.Client(t)}
	b.Writer = b.writer(server.URL)
	b.acquire()
	b.twoTeams()
	b.fill()
	return b, server
}

// try applies once and returns the class of the error.
func (b *bundle) try(tx *change.Tx) Class {
	b.t.Helper()
	_, err := b.Apply(b.t.Context(), change.Batch{Txs: []*change.Tx{tx}, Through: tx.EndLSN})
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		b.t.Fatalf("Apply: %v, which is no error of Redis", err)
	}
	return e.Class
}

// snapshot is the whole cache as text. It reads the values, because two dumps of a hash need not be the same bytes.
func (b *bundle) snapshot() string {
	var all strings.Builder
	for _, key := range slices.Sorted(slices.Values(b.allKeys())) {
		var value any
		switch b.redis.Type(b.t.Context(), key).Val() {
		case "string":
			value = b.redis.Get(b.t.Context(), key).Val()
		case "hash":
			value = b.redis.HGetAll(b.t.Context(), key).Val() // printed in the order of the fields
		case "stream":
			value = b.redis.XRange(b.t.Context(), key, "-", "+").Val()
		default:
			b.t.Fatalf("%s is of no type that the cache has", key)
		}
		fmt.Fprintf(&all, "%s %v\n", key, value)
	}
	return all.String()
}

// F30, F39, F28: a key of a foreign type stops a batch before its first write, also if it is the last that the batch touches.
func TestForeignKeyLeavesNothingHalfDone(t *testing.T) {
	b := filled(t)
	tag := "{" + b.prefix + "}:"
	for _, key := range []string{tag + "team:2", tag + "teams", tag + "tokens", tag + "changes"} {
		dump := b.redis.Dump(t.Context(), key).Val()
		b.redis.Set(t.Context(), key, "poison", 0)
		tx := b.m.begin().
			put(team, "1", modelRow{"api_token": "phc_" + key}).
			put(flag, "11", modelRow{"active": true}).
			put(cohort, "5", modelRow{"is_static": true}).commit()
		before := b.snapshot()
		if class := b.try(tx); class != ClassForeign {
			t.Errorf("%s: class %q, want %q", key, class, ClassForeign)
		}
		if b.snapshot() != before {
			t.Errorf("%s: something was written", key)
		}
		b.redis.RestoreReplace(t.Context(), key, 0, dump)
		if class := b.try(tx); class != "" {
			t.Errorf("%s: class %q once the key is put right", key, class)
		}
		b.check()
	}
}

// F28: of the replies to one pipeline of reads, the first says that a record is not there, and the second is an error. It is the error that counts: a record
// that cannot be read is not one that is lost.
func TestErrorBehindAMissingRecord(t *testing.T) {
	b := filled(t)
	tag := "{" + b.prefix + "}:"
	lost, dump := b.redis.HGet(t.Context(), tag+"team:1", "flag:10").Val(), b.redis.Dump(t.Context(), tag+"team:2").Val()
	b.redis.HDel(t.Context(), tag+"team:1", "flag:10")
	b.redis.Set(t.Context(), tag+"team:2", "poison", 0)
	tx := b.m.begin().put(flag, "10", modelRow{"active": false}, "filters").put(cohort, "5", modelRow{"is_static": true}, "filters").commit()
	before := b.snapshot()
	if class := b.try(tx); class != ClassForeign {
		t.Errorf("class %q, want %q", class, ClassForeign)
	}
	if b.snapshot() != before {
		t.Error("something was written")
	}
	b.redis.HSet(t.Context(), tag+"team:1", "flag:10", lost)
	b.redis.RestoreReplace(t.Context(), tag+"team:2", 0, dump)
	if pending := b.apply(tx); pending != "" {
		t.Errorf("marker %q once both can be read", pending)
	}
	b.check()
}

// F31: a full Redis refuses a batch whole, and takes it later.
func TestOutOfMemory(t *testing.T) {
	b, _ := own(t, testenv.RedisOptions{Conf: map[string]string{"maxmemory-policy": "noeviction"}})
	for i, tx := range []*change.Tx{ // in the order of their commits
		b.m.begin().put(flag, "12", modelRow{"team_id": 2, "key": "new", "filters": large("z")}).commit(),
		b.m.begin().remove(cohort, "5").put(flag, "11", modelRow{"active": true}).commit(),
	} {
		name := [...]string{"insert", "delete"}[i]
		b.redis.ConfigSet(t.Context(), "maxmemory", "1")
		before := b.snapshot()
		class := b.try(tx)
		if class != ClassFull && (name == "insert" || class != "") { // Redis lets a script that began with a deletion go on
			t.Errorf("%s: class %q, want %q", name, class, ClassFull)
		}
		if class != "" && b.snapshot() != before {
			t.Errorf("%s: something was written", name)
		}
		b.redis.ConfigSet(t.Context(), "maxmemory", "0")
		if class := b.try(tx); class != "" {
			t.Errorf("%s: class %q once there is memory", name, class)
		}
	}
	b.check()
}

// F34: a server that forgot its scripts, and one that became a replica.
func TestForgottenScriptsAndReplicas(t *testing.T) {
	b, _ := own(t, testenv.RedisOptions{})
	b.redis.ScriptFlush(t.Context())
	b.apply(b.m.begin().put(flag, "11", modelRow{"active": true}).commit())

	b.redis.ReplicaOf(t.Context(), "127.0.0.1", "1")
	tx := b.m.begin().put(flag, "11", modelRow{"active": false}).commit()
	if class := b.try(tx); class != ClassUnready {
		t.Errorf("on a replica: class %q, want %q", class, ClassUnready)
	}
	b.redis.ReplicaOf(t.Context(), "no", "one")
	if class := b.try(tx); class != "" {
		t.Errorf("on a primary again: class %q", class)
	}
	b.check()
}

// F33: with WaitReplicas, what no replica has is not confirmed; once it has, the same batch is.
func TestWaitForReplicas(t *testing.T) {
	b, primary := own(t, testenv.RedisOptions{Process: true}) // which a replica reaches under the same address as we do
	client, err := redisconn.Open(redisconn.Config{URL: primary.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	b.Writer = New(Config{Client: client, Logger: zaptest.NewLogger(t), Prefix: b.prefix, WaitReplicas: 1, Timeout: 2 * time.Second})
	b.acquire()
	b.Writer.config.Timeout = time.Second
	tx := b.m.begin().put(flag, "11", modelRow{"active": true}).commit()
	if class := b.try(tx); class != ClassUnready {
		t.Errorf("without a replica: class %q, want %q", class, ClassUnready)
	}
	b.Writer.config.Timeout = 5 * time.Second
	replica := testenv.RedisServer(t, testenv.RedisOptions{Process: true}).Client(t)
	host, port, _ := strings.Cut(primary.Addr, ":")
	replica.ReplicaOf(t.Context(), host, port)
	testenv.Eventually(t, 20*time.Second, func() error {
		_, err := b.Apply(t.Context(), change.Batch{Txs: []*change.Tx{tx}, Through: tx.EndLSN})
		return err
	})
	if got := replica.HGet(t.Context(), "{p}:meta", "checkpoint").Val(); got != tx.EndLSN.String() {
		t.Errorf("the replica has checkpoint %q, want %q", got, tx.EndLSN)
	}
	b.check()
}

// F36: Redis goes and comes back many times, with its data; the writer is at work again at once.
func TestRestartsOfRedis(t *testing.T) {
	b, server := own(t, testenv.RedisOptions{Conf: map[string]string{"appendonly": "yes", "appendfsync": "always"}})
	for i := range 20 {
		tx := b.m.begin().put(flag, "11", modelRow{"active": i%2 == 0, "key": fmt.Sprint(i)}).commit()
		server.Kill(t)
		if class := b.try(tx); class != ClassUnreachable {
			t.Fatalf("without a server: class %q, want %q", class, ClassUnreachable)
		}
		server.Start(t)
		testenv.Eventually(t, 10*time.Second, func() error {
			_, err := b.Apply(t.Context(), change.Batch{Txs: []*change.Tx{tx}, Through: tx.EndLSN})
			return err
		})
	}
	b.check()
}

// F37: replies swallowed by the network after the command took effect.
func TestSwallowedReplies(t *testing.T) {
	b := filled(t)
	proxy := testenv.Proxy(t, strings.TrimPrefix(b.redis.Options().Addr, "redis://"))
	b.Writer = b.writer(proxy.URL(b.url))
	b.acquire()
	proxy.HalfClose()
	tx := b.m.begin().put(team, "1", modelRow{"api_token": "phc_two"}).put(team, "2", modelRow{"api_token": "phc_one"}).
		put(flag, "10", modelRow{"team_id": 2}, "filters").commit()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := b.Apply(ctx, change.Batch{Txs: []*change.Tx{tx}, Through: tx.EndLSN}); err == nil {
		t.Fatal("Apply without a reply succeeded")
	}
	proxy.Drop()
	proxy.Restore()
	if pending := b.apply(tx); pending != "" {
		t.Errorf("marker %q", pending)
	}
	b.check()
}

// F34: every error is judged in one place.
func TestClassify(t *testing.T) {
	for text, want := range map[string]Class{
		"LOADING Redis is loading the dataset in memory":                        ClassUnready,
		"READONLY You can't write against a read only replica.":                 ClassUnready,
		"ERR Error running script (call to f_1): @user_script:1: -READONLY You": ClassUnready,
		"MASTERDOWN Link with MASTER is down":                                   ClassUnready,
		"CLUSTERDOWN Hash slot not served":                                      ClassUnready,
		"TRYAGAIN Multiple keys request during rehashing of slot":               ClassUnready,
		"MOVED 3999 127.0.0.1:6381":                                             ClassUnready,
		"BUSY Redis is busy running a script":                                   ClassUnready,
		"NOREPLICAS Not enough good replicas to write.":                         ClassUnready,
		"ERR max number of clients reached":                                     ClassUnready,
		"OOM command not allowed when used memory > 'maxmemory'.":               ClassFull,
		"MISCONF Redis is configured to save RDB snapshots":                     ClassFull,
		"NOAUTH Authentication required.":                                       ClassRefused,
		"WRONGPASS invalid username-password pair or user is disabled.":         ClassRefused,
		"NOPERM this user has no permissions to run the 'evalsha' command":      ClassRefused,
		"ERR DB index is out of range":                                          ClassRefused,
		"WRONGTYPE Operation against a key holding the wrong kind of value":     ClassForeign,
		"ERR something new":                                                     ClassOther,
	} {
		if got := classOf(redisError(text)); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	for err, want := range map[error]Class{
		io.EOF: ClassUnreachable, redis.ErrPoolTimeout: ClassUnreachable, context.DeadlineExceeded: ClassUnreachable,
		x509.UnknownAuthorityError{}: ClassRefused,
	} {
		if got := classOf(fmt.Errorf("dialling: %w", err)); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
	for class, want := range map[Class]bool{ClassUnreachable: false, ClassUnready: false, ClassFull: false, ClassRefused: true, ClassForeign: true, ClassOther: true} {
		if (&Error{Class: class}).Permanent() != want {
			t.Errorf("class %q: Permanent is not %t", class, want)
		}
	}
}

// redisError is an error reply.
type redisError string

func (e redisError) Error() string { return string(e) }
func (e redisError) RedisError()   {}

// A context that ends is the caller's doing, not an error of Redis.
func TestCancelledContext(t *testing.T) {
	b := filled(t)
	cause := errors.New("stopping")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := b.Beat(ctx, true); !errors.Is(err, cause) {
		t.Errorf("Beat = %v, want the cause of the context", err)
	}
}

// F35: all keys share a slot, so that a Cluster takes a batch as one server does.
func TestCluster(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t, testenv.RedisOptions{Process: true, Conf: map[string]string{"cluster-enabled": "yes", "cluster-port": testenv.FreePort(t)}})
	admin := server.Client(t)
	if err := admin.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		if info := admin.ClusterInfo(t.Context()).Val(); !strings.Contains(info, "cluster_state:ok") {
			return errors.New(info)
		}
		return nil
	})
	for _, replicas := range []int{0, 1} {
		b := &bundle{t: t, m: newModel(), prefix: fmt.Sprint("p", replicas), url: strings.Replace(server.URL, "redis://", "redis+cluster://", 1), redis: admin}
		b.url, _, _ = strings.Cut(b.url, "/0")
		b.Writer = b.writer(b.url)
		b.acquire()
		b.twoTeams()
		b.fill()
		b.Writer.config.WaitReplicas, b.Writer.config.Timeout = replicas, time.Second
		tx := b.m.begin().put(flag, "10", modelRow{"team_id": 2}, "filters").commit()
		want := Class("")
		if replicas > 0 {
			want = ClassUnready
		}
		if class := b.try(tx); class != want {
			t.Errorf("waiting for %d replicas: class %q, want %q", replicas, class, want)
		}
		b.check()
	}
}

// G2, F40: a transaction of which one row cannot be known is left out whole, with all that follows it in the batch; what came before it is applied.
func TestIncompleteTransactionIsLeftOutWhole(t *testing.T) {
	b := filled(t)
	b.apply(b.m.begin().put(flag, "10", modelRow{"deleted": true}).commit()) // the cache forgets its filters
	before := b.m.begin().put(cohort, "5", modelRow{"is_static": true}).commit()
	shown := b.m.image()
	partial := b.m.begin().put(flag, "11", modelRow{"active": true}).put(flag, "10", modelRow{"deleted": false}, "filters").commit()
	after := b.m.begin().put(flag, "11", modelRow{"key": "delta"}).commit()
	if pending := b.apply(before, partial, after); pending == "" {
		t.Error("no reconcile is due")
	}
	if diff := b.diff(shown); diff != "" {
		t.Errorf("the cache is not as of the last whole transaction (-source +cache):\n%s", diff)
	}
	if got, want := b.meta("checkpoint"), after.EndLSN.String(); got != want {
		t.Errorf("checkpoint %s, want %s", got, want)
	}
	b.fill()
	b.check()
}

// G2: the same if any of the replies on the way is lost, so that the batch has to be sent again: what was left out stays so.
func TestIncompleteTransactionAfterALostReply(t *testing.T) {
	for lost := range 10 {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			b := filled(t)
			flaky := &flaky{}
			b.Writer = b.writer(b.url, flaky)
			b.acquire()
			b.apply(b.m.begin().put(flag, "10", modelRow{"deleted": true}).commit())
			before := b.m.begin().put(cohort, "5", modelRow{"is_static": true}).commit()
			shown := b.m.image()
			partial := b.m.begin().put(flag, "11", modelRow{"active": true}).put(flag, "10", modelRow{"deleted": false}, "filters").commit()
			after := b.m.begin().put(flag, "11", modelRow{"key": "delta"}).commit()
			batch := change.Batch{Txs: []*change.Tx{before, partial, after}, Through: after.EndLSN}
			flaky.plan = append(make([]failure, lost), persisted)
			pending, err := b.Apply(t.Context(), batch)
			if err != nil {
				pending, err = b.Apply(t.Context(), batch)
			}
			if err != nil || pending == "" {
				t.Fatalf("Apply = %q, %v", pending, err)
			}
			if diff := b.diff(shown); diff != "" {
				t.Errorf("the cache is not as of the last whole transaction (-source +cache):\n%s", diff)
			}
			if got, want := b.meta("checkpoint"), after.EndLSN.String(); got != want {
				t.Errorf("checkpoint %s, want %s", got, want)
			}
		})
	}
}
