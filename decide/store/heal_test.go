package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/testenv"
)

// ownRedis returns a bundle on a Redis that the test may hurt, which keeps every write.
func ownRedis(t *testing.T, change func(*Config)) (*testenv.RedisInstance, *bundle) {
	t.Helper()
	own := testenv.RedisServer(t, testenv.RedisOptions{Conf: map[string]string{"appendonly": "yes", "appendfsync": "always"}})
	return own, setupAt(t, own.Client(t), own.URL, "test", change)
}

// through returns a bundle whose store reaches Redis through a proxy, while its writer does not.
func through(t *testing.T) (*testenv.Flaky, *bundle) {
	t.Helper()
	space := testenv.Redis(t)
	u, err := url.Parse(space.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.Proxy(t, u.Host)
	return proxy, setupAt(t, space.Client(t), proxy.URL(space.URL), space.Prefix, nil)
}

func (b *bundle) revalidated(t *testing.T, reason string) {
	t.Helper()
	if testutil.ToFloat64(b.metrics.revalidations.WithLabelValues(reason)) == 0 {
		t.Errorf("no revalidation was counted for %s", reason)
	}
}

// S1, S3, S10, S13: Redis killed, twenty times; the newest value is served within two seconds of its return, and nothing else in between.
func TestRedisKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	own, b := ownRedis(t, nil)
	b.w.fill("one", definition{id: 1, mark: "v0", flags: 2})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "v0"})
	var slowest time.Duration
	for n := range 20 {
		before := fmt.Sprintf("v%d", n)
		own.Kill(t)
		if got := b.answer("phc_1"); got != before {
			t.Fatalf("with Redis killed: %s, want %s", got, before)
		}
		own.Start(t)
		after := fmt.Sprintf("v%d", n+1)
		b.w.put(definition{id: 1, mark: after, flags: 2})
		start := time.Now()
		b.wants(t, 2*time.Second, map[string]string{"phc_1": after})
		slowest = max(slowest, time.Since(start))
	}
	t.Logf("slowest: %v", slowest)
}

// S10: Redis stays away for long enough that every connection and many attempts have failed. The follower still tries every third of a second, and its
// first attempt after the return works.
func TestRedisBackAfterLong(t *testing.T) {
	t.Parallel()
	own, b := ownRedis(t, nil)
	b.w.fill("one", definition{id: 1, mark: "a"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a"})
	own.Kill(t)
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := testutil.ToFloat64(b.metrics.errors); n < 10 {
			return fmt.Errorf("%v errors so far", n)
		}
		return nil
	})
	own.Start(t)
	b.w.put(definition{id: 1, mark: "b"})
	start := time.Now()
	b.wants(t, 2*time.Second, map[string]string{"phc_1": "b"})
	t.Logf("served %v after the return", time.Since(start))
}

// S9, S14, S60: Redis comes back empty; answers never change, unknown tokens are not called absent, and only a complete cache makes teams go. The end of
// the reconcile shows in the stream and in meta: either is enough.
func TestCacheEmptied(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(w *writer){
		"stream": (*writer).markReconciled,
		"meta":   func(w *writer) { w.set(flagcache.MetaComplete, "1", flagcache.MetaReconcile, "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testCacheEmptied(t, end)
		})
	}
}

func testCacheEmptied(t *testing.T, end func(w *writer)) {
	b := setup(t, nil)
	b.w.fill("one", definition{id: 1, mark: "a", flags: 1}, definition{id: 2, mark: "b"}, definition{id: 3, mark: "c"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_2": "b", "phc_3": "c", "phc_9": "absent"})
	before := b.Position()

	b.w.client.FlushDB(t.Context())
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_2": "b", "phc_3": "c", "phc_9": "unavailable"})
	if p := b.Position(); !p.Ready || p.Checkpoint != before.Checkpoint {
		t.Errorf("Position = %+v, was %+v", p, before)
	}
	if s := b.Status(); s.Source != "memory" || !strings.Contains(s.Error, "empty") {
		t.Errorf("Status = %+v", s)
	}

	// The replicator begins to rebuild: what it has written counts, what it has not written yet stays.
	b.w.tokens = map[int64]string{}
	b.w.lead("two")
	b.w.set(flagcache.MetaReconcile, "empty cache")
	b.w.put(definition{id: 1, mark: "a2", flags: 1})
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a2", "phc_2": "b", "phc_3": "c", "phc_9": "unavailable"})
	b.w.put(definition{id: 2, mark: "b2"}, definition{id: 4, mark: "d"})
	b.wants(t, 3*time.Second, map[string]string{"phc_2": "b2", "phc_3": "c", "phc_4": "d"})
	// A team that the cache lacks stays, but one that the leader takes away goes, whatever the cache still lacks.
	b.w.remove(2)
	b.wants(t, 3*time.Second, map[string]string{"phc_2": "unavailable", "phc_3": "c", "phc_4": "d"})

	end(b.w)
	b.w.beat()
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a2", "phc_2": "absent", "phc_3": "absent", "phc_4": "d", "phc_9": "absent"})
}

// A fresh process that meets an empty cache is not ready, and a complete one without teams is.
func TestNothingToServe(t *testing.T) { // S15, S17
	t.Parallel()
	b := setup(t, nil).start(t)
	testenv.Eventually(t, 2*time.Second, func() error {
		if b.Status().Error == "" {
			return errors.New("the empty cache is not reported")
		}
		return nil
	})
	if b.Position().Ready || b.answer("phc_1") != "unavailable" {
		t.Error("ready with nothing")
	}
	b.w.fill("one")
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "absent"})
	if !b.Position().Ready {
		t.Error("not ready with a complete cache")
	}
}

// A new epoch or owner, with changes that the stream did not announce.
func TestNewReign(t *testing.T) {
	t.Parallel()
	for reason, reign := range map[string]func(w *writer){
		reasonEpoch: func(w *writer) { w.lead("one") },
		reasonOwner: func(w *writer) { w.set(flagcache.MetaOwner, "two") },
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			b.w.fill("one", definition{id: 1, mark: "a"}, definition{id: 2, mark: "b"}, definition{id: 3, mark: "c"})
			b.start(t)
			b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_2": "b", "phc_3": "c"})
			reign(b.w)
			b.w.beat()
			b.w.put(definition{id: 1, mark: "a2"})
			b.w.remove(3)
			b.w.client.Del(t.Context(), b.w.keys.Changes)
			b.wants(t, 3*time.Second, map[string]string{"phc_1": "a2", "phc_2": "b", "phc_3": "absent"})
			b.revalidated(t, reason)
			b.w.put(definition{id: 2, mark: "b2"})
			b.wants(t, time.Second, map[string]string{"phc_2": "b2"})
		})
	}
}

// The stream trimmed beyond the reader, or deleted, while the reader was cut off.
func TestStreamLost(t *testing.T) {
	t.Parallel()
	for reason, lose := range map[string]func(c redis.UniversalClient, t *testing.T, stream string){
		reasonGap:    func(c redis.UniversalClient, t *testing.T, stream string) { c.XTrimMaxLen(t.Context(), stream, 1) },
		reasonBehind: func(c redis.UniversalClient, t *testing.T, stream string) { c.Del(t.Context(), stream) },
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			proxy, b := through(t)
			b.w.fill("one", definition{id: 1, mark: "a"}, definition{id: 2, mark: "b"}, definition{id: 3, mark: "c"})
			b.start(t)
			b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_2": "b", "phc_3": "c", "phc_9": "absent"})
			proxy.Cut()
			b.w.put(definition{id: 1, mark: "a2"})
			b.w.put(definition{id: 2, mark: "b2"})
			b.w.remove(3)
			lose(b.w.client, t, b.w.keys.Changes)
			b.w.beat()
			proxy.Restore()
			b.wants(t, 4*time.Second, map[string]string{"phc_1": "a2", "phc_2": "b2", "phc_3": "absent"})
			b.revalidated(t, reason)
		})
	}
}

// S12: the connection that waits for changes dies without a sound. One warning line, and one when it is over.
func TestSilentlyDeadConnection(t *testing.T) {
	t.Parallel()
	for name, hurt := range map[string]func(*testenv.Flaky){"swallowed": (*testenv.Flaky).HalfClose, "stalled": (*testenv.Flaky).Stall} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, b := through(t)
			logs, observed := observer.New(zapcore.InfoLevel)
			b.log = zap.New(logs)
			b.w.fill("one", definition{id: 1, mark: "a"})
			b.start(t)
			b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_9": "absent"})
			hurt(proxy)
			b.w.put(definition{id: 1, mark: "b"})
			testenv.Eventually(t, 4*time.Second, func() error {
				if b.Status().Error == "" {
					return errors.New("the silence is not noticed")
				}
				return nil
			})
			if err := b.has(map[string]string{"phc_1": "a"}); err != nil {
				t.Error(err)
			}
			proxy.Restore()
			b.w.beat()
			start := time.Now()
			b.wants(t, 2*time.Second, map[string]string{"phc_1": "b", "phc_9": "absent"})
			t.Logf("healed in %v", time.Since(start))
			if n := observed.FilterMessage("redis does not answer, serving what is in memory").Len(); n != 1 {
				t.Errorf("%d warnings, want 1", n)
			}
		})
	}
}

// S3, S11: Redis frozen. Answers stay, absences are no longer certain after five seconds, and all is well again soon after it thaws.
func TestRedisFrozen(t *testing.T) {
	t.Parallel()
	logs, observed := observer.New(zapcore.WarnLevel)
	own, b := ownRedis(t, func(cfg *Config) { cfg.Logger = zap.New(logs) })
	b.w.fill("one", definition{id: 1, mark: "a"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_9": "absent"})
	own.Freeze(t)
	start := time.Now()
	for range 10_000 {
		if _, lookup := b.Program("phc_1"); lookup != decide.Found {
			t.Fatalf("Program = %v", lookup)
		}
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("10,000 requests took %v: they wait for something", took)
	}
	b.wants(t, 7*time.Second, map[string]string{"phc_1": "a", "phc_9": "unavailable"})
	if s := b.Status(); s.Source != "memory" || !s.isFailing() {
		t.Errorf("Status = %+v", s)
	}
	own.Thaw(t)
	b.w.put(definition{id: 1, mark: "b"})
	b.w.beat()
	b.wants(t, 2*time.Second, map[string]string{"phc_1": "b", "phc_9": "absent"})
	if n := observed.Len(); n != 1 {
		t.Errorf("%d warnings, want 1: %v", n, observed.All())
	}
}

func (s Status) isFailing() bool { return s.Error != "" && s.ErrorSince != nil }

// Redis comes back with the data of a while ago. What is served does not go back; when a writer has dealt with the cache, it counts again.
func TestCacheWentBack(t *testing.T) {
	t.Parallel()
	own := testenv.RedisServer(t, testenv.RedisOptions{})
	b := setupAt(t, own.Client(t), own.URL, "test", nil)
	b.w.fill("one", definition{id: 1, mark: "a"}, definition{id: 2, mark: "b"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_2": "b"})
	if err := b.w.client.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	epoch, seq := b.w.epoch, b.w.seq
	b.w.put(definition{id: 1, mark: "a2"}, definition{id: 3, mark: "c"})
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a2", "phc_2": "b", "phc_3": "c"})

	own.Kill(t)
	own.Start(t)
	testenv.Eventually(t, 4*time.Second, func() error {
		if testutil.ToFloat64(b.metrics.revalidations.WithLabelValues(reasonBack)) == 0 {
			return errors.New("not noticed")
		}
		return b.has(map[string]string{"phc_1": "a2", "phc_2": "b", "phc_3": "c", "phc_9": "unavailable"})
	})

	// The replicator finds its checkpoint gone, leads anew and makes the cache equal to the source: team 3 was deleted meanwhile.
	b.w.epoch, b.w.seq = epoch, seq
	b.w.lead("two")
	b.w.set(flagcache.MetaReconcile, "checkpoint lost")
	b.w.put(definition{id: 1, mark: "a3"})
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a3", "phc_2": "b", "phc_3": "c"})
	b.w.markReconciled()
	b.w.beat()
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a3", "phc_2": "b", "phc_3": "absent", "phc_9": "absent"})
}

// A cache that a newer replicator has written is left alone, and memory serves on.
func TestNewerSchemaRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.w.fill("one", definition{id: 1, mark: "a"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_9": "absent"})
	b.w.set(flagcache.MetaSchema, flagcache.SchemaVersion+1)
	b.w.put(definition{id: 1, mark: "b"})
	testenv.Eventually(t, 3*time.Second, func() error {
		if s := b.Status(); !strings.Contains(s.Error, "newer") {
			return fmt.Errorf("Status = %+v", s)
		}
		return b.has(map[string]string{"phc_1": "a", "phc_9": "unavailable"})
	})
	b.w.set(flagcache.MetaSchema, flagcache.SchemaVersion)
	b.w.beat()
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "b", "phc_9": "absent"})
}

// spoil makes the record of a team unreadable.
func (b *bundle) spoil(t *testing.T, id int64) {
	t.Helper()
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	b.w.exec(func(ctx context.Context, pipe redis.Pipeliner) {
		pipe.HSet(ctx, b.w.keys.Team(id), "team", `{"api_token`)
		pipe.HSetNX(ctx, b.w.keys.Teams, strconv.FormatInt(id, 10), flagcache.Version(b.w.epoch, b.w.lsn))
		b.w.entry(ctx, pipe, "team", id, "version", "x")
		pipe.HSet(ctx, b.w.keys.Meta, flagcache.MetaSeq, b.w.seq)
	})
}

// A record that is not readable harms neither other teams nor the team as it was before, and no absence is certain while it lasts.
func TestUnreadableTeam(t *testing.T) { // S26, S27
	t.Parallel()
	b := setup(t, nil)
	b.w.fill("one", definition{id: 1, mark: "a"}, definition{id: 2, mark: "b"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_2": "b", "phc_9": "absent"})
	stop := b.w.beating()
	defer stop()
	b.spoil(t, 1)
	b.w.put(definition{id: 2, mark: "b2"})
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_2": "b2", "phc_9": "unavailable"})
	b.w.put(definition{id: 1, mark: "a2"})
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a2", "phc_9": "absent"})
	b.spoil(t, 5)
	b.wants(t, 3*time.Second, map[string]string{"phc_5": "unavailable", "phc_9": "unavailable"})
	// It goes, and the stream does not tell.
	b.w.client.Del(t.Context(), b.w.keys.Team(5))
	b.w.client.HDel(t.Context(), b.w.keys.Teams, "5")
	b.w.lead("two")
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a2", "phc_5": "absent", "phc_9": "absent"})
}
