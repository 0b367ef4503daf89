package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/oracle"
	"github.com/everflag/everflag/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// settle is how long a cache may take to become equal to its source.
const settle = 20 * time.Second

// world is a source with PostHog's tables, an empty cache, and the settings that join them.
type world struct {
	pg    *testenv.DB
	redis *testenv.KeySpace
	slot  string
	db    *pgx.Conn
	cache *redis.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := newEmptyWorld(t)
	testenv.LoadSchema(t, w.pg, testenv.Schema2026)
	return w
}

// newEmptyWorld leaves the choice of the tables to the test.
func newEmptyWorld(t *testing.T) *world {
	t.Helper()
	w := &world{pg: testenv.Postgres(t), redis: testenv.Redis(t)}
	w.slot = "slot_" + strings.ToLower(w.redis.Prefix[max(0, len(w.redis.Prefix)-30):])
	w.db, w.cache = w.pg.Conn(t), w.redis.Client(t)
	return w
}

// env are the settings of a replicator for this world. Its port is one that nothing else uses.
func (w *world) env(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{
		"REPLICATOR_POSTGRES_URL=" + w.pg.URL, "REPLICATOR_REDIS_URL=" + w.redis.URL, "REPLICATOR_KEY_PREFIX=" + w.redis.Prefix,
		"REPLICATOR_SLOT=" + w.slot, "REPLICATOR_ADMIN_ADDR=127.0.0.1:" + testenv.FreePort(t),
	}, more...)
}

// equal reports the first differences between tables and cache.
func (w *world) equal(ctx context.Context) error {
	lines, err := oracle.Differences(ctx, w.db, w.cache, oracle.Options{Prefix: w.redis.Prefix})
	if err != nil {
		return err
	}
	if len(lines) > 0 {
		return fmt.Errorf("%d differences: %s", len(lines), strings.Join(lines[:min(5, len(lines))], "; "))
	}
	return nil
}

// waitEqual waits until the cache is equal to the tables and complete.
func (w *world) waitEqual(t *testing.T) {
	t.Helper()
	testenv.Eventually(t, settle, func() error {
		if complete, err := w.cache.HGet(t.Context(), "{"+w.redis.Prefix+"}:meta", "complete").Result(); err != nil || complete != "1" {
			return fmt.Errorf("complete is %q (%v)", complete, err)
		}
		return w.equal(t.Context())
	})
}

// exec runs SQL on the world's connection.
func (w *world) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := w.db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%.200s: %v", sql, err)
	}
}

// addressOf is host:port of a URL.
func addressOf(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}
