package cachewriter

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/redisconn"
	"github.com/everflag/everflag/internal/testenv"
)

// bundle is a cache of its own for one test, the model it must equal, and a Writer that leads it.
type bundle struct {
	*Writer
	t      *testing.T
	m      *model
	prefix string
	url    string
	redis  *redis.Client // past the Writer, to look and to tamper
}

func setup(t *testing.T) *bundle {
	t.Helper()
	t.Parallel()
	space := testenv.Redis(t)
	b := &bundle{t: t, m: newModel(), prefix: space.Prefix, url: space.URL, redis: space.Client(t)}
	b.Writer = b.writer(space.URL)
	b.acquire()
	return b
}

// writer returns another Writer of the same cache.
func (b *bundle) writer(address string, hooks ...redis.Hook) *Writer {
	b.t.Helper()
	client, err := redisconn.Open(redisconn.Config{URL: address})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = client.Close() })
	for _, hook := range hooks {
		client.AddHook(hook)
	}
	return New(Config{Client: client, Logger: zaptest.NewLogger(b.t, zaptest.Level(zap.ErrorLevel)), Prefix: b.prefix})
}

func (b *bundle) acquire() change.Position {
	b.t.Helper()
	position, err := b.Acquire(b.t.Context())
	if err != nil {
		b.t.Fatalf("Acquire: %v", err)
	}
	return position
}

// fill reconciles the cache with the model.
func (b *bundle) fill() change.ReconcileResult {
	b.t.Helper()
	result, err := b.Reconcile(b.t.Context(), b.m.copy("test"))
	if err != nil {
		b.t.Fatalf("Reconcile: %v", err)
	}
	return result
}

// apply applies one batch and returns the marker.
func (b *bundle) apply(txs ...*change.Tx) string {
	b.t.Helper()
	pending, err := b.Apply(b.t.Context(), change.Batch{Txs: txs, Through: txs[len(txs)-1].EndLSN})
	if err != nil {
		b.t.Fatalf("Apply: %v", err)
	}
	return pending
}

// check compares the cache with the model.
func (b *bundle) check() {
	b.t.Helper()
	if diff := b.diff(b.m.image()); diff != "" {
		b.t.Fatalf("the cache differs from the source (-source +cache):\n%s", diff)
	}
}

// diff reads the cache with plain commands and a decoder of its own.
func (b *bundle) diff(want image) string {
	ctx, got := context.WithoutCancel(b.t.Context()), image{Teams: map[string]map[string]any{}, Tokens: map[string]string{}}
	tag := "{" + b.prefix + "}:"
	versions := b.redis.HGetAll(ctx, tag+"teams").Val()
	if tokens := b.redis.HGetAll(ctx, tag+"tokens").Val(); tokens != nil {
		got.Tokens = tokens
	}
	for _, key := range b.redis.Keys(ctx, tag+"team:*").Val() {
		id := strings.TrimPrefix(key, tag+"team:")
		record := map[string]any{}
		for name, text := range b.redis.HGetAll(ctx, key).Val() {
			if name == "@v" {
				if versions[id] != text {
					record["@v"] = "version " + text + ", listed " + versions[id]
				}
				delete(versions, id)
				continue
			}
			record[name] = decode(text)
		}
		got.Teams[id] = record
	}
	for id, version := range versions {
		got.Teams[id] = map[string]any{"listed without key": version}
	}
	return cmp.Diff(want, got)
}

// allKeys are the keys of the cache; the database may have others.
func (b *bundle) allKeys() []string {
	return b.redis.Keys(context.WithoutCancel(b.t.Context()), "{"+b.prefix+"}:*").Val()
}

// flush does to the cache what FLUSHALL does to Redis.
func (b *bundle) flush() {
	if keys := b.allKeys(); len(keys) > 0 {
		b.redis.Del(b.t.Context(), keys...)
	}
}

func (b *bundle) meta(field string) string {
	return b.redis.HGet(b.t.Context(), "{"+b.prefix+"}:meta", field).Val()
}

// large stands for a value that Postgres stores out of line.
func large(seed string) json.RawMessage {
	return json.RawMessage(`{"groups": [{"properties": [], "x": "` + strings.Repeat(seed, 4000) + `"}], "n": 12345678901234567890, "empty": []}`)
}

// twoTeams is a model with two teams, a flag with children and a cohort.
func (b *bundle) twoTeams() *change.Tx {
	return b.m.begin().
		put(team, "1", modelRow{"api_token": "phc_one", "name": "One \"quoted\" \\ \n <é>", "secret_api_token": "phs_1", "opt_out": nil}).
		put(team, "2", modelRow{"api_token": "phc_two", "name": "Two", "secret_api_token": nil, "opt_out": true}).
		put(flag, "10", modelRow{"team_id": 1, "key": "beta", "active": true, "filters": large("a"), "deleted": false}).
		put(flag, "11", modelRow{"team_id": 1, "key": "gamma", "active": false, "filters": json.RawMessage(`{}`), "deleted": false}).
		put(cohort, "5", modelRow{"team_id": 2, "filters": json.RawMessage(`[]`), "is_static": false}).
		put(context_, "0190a0b0-0000-7000-8000-000000000001", modelRow{"team_id": 1, "name": "web"}).
		put(flagContext, "0190a0b0-0000-7000-8000-0000000000aa", modelRow{"feature_flag_id": 10, "evaluation_context_id": "0190a0b0-0000-7000-8000-000000000001"}).
		put(experiment, "3", modelRow{"feature_flag_id": 10, "name": "exp"}).
		commit()
}

// filled is a setup whose cache is complete.
func filled(t *testing.T) *bundle {
	b := setup(t)
	b.twoTeams()
	b.fill()
	b.check()
	return b
}

func TestReconcileFillsAnEmptyCache(t *testing.T) {
	b := setup(t)
	b.twoTeams()
	copied := b.m.copy("first")
	result, err := b.Reconcile(t.Context(), copied)
	if want := (change.ReconcileResult{Teams: 2, Rows: 8, TeamsWritten: 2}); err != nil || result != want {
		t.Errorf("Reconcile = %+v, %v, want %+v", result, err, want)
	}
	b.check()
	position, err := b.writer(b.url).Acquire(t.Context())
	want := change.Position{Source: testSource, Schema: 1, Checkpoint: copied.At, Complete: true, Teams: 2}
	if diff := cmp.Diff(want, position); err != nil || diff != "" {
		t.Errorf("Acquire: %v, (-want +got):\n%s", err, diff)
	}
}

func TestAcquireOfAnEmptyCache(t *testing.T) {
	b := setup(t)
	if position := b.acquire(); position != (change.Position{}) {
		t.Errorf("Acquire = %+v, want nothing", position)
	}
}

// G3, F21: a former leader that wakes up changes nothing.
func TestFormerLeaderIsFenced(t *testing.T) {
	b := filled(t)
	late := b.m.begin().put(flag, "11", modelRow{"active": true}).commit()
	next := b.writer(b.url)
	if _, err := next.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := next.Apply(t.Context(), change.Batch{Txs: []*change.Tx{late}, Through: late.EndLSN}); err != nil {
		t.Fatal(err)
	}
	former := b.Writer
	owner := former.owner
	for name, call := range map[string]func() error{
		"Apply": func() error {
			stale := b.m.begin().put(flag, "11", modelRow{"active": false}).commit()
			b.m.begin().put(flag, "11", modelRow{"active": true}).commit()
			_, err := former.Apply(t.Context(), change.Batch{Txs: []*change.Tx{stale}, Through: stale.EndLSN})
			return err
		},
		"Beat":      func() error { return former.Beat(t.Context(), true) },
		"Mark":      func() error { return former.Mark(t.Context(), "late") },
		"Confirm":   func() error { return former.Confirm(t.Context(), testSource) },
		"Reconcile": func() error { _, err := former.Reconcile(t.Context(), newModel().copy("late")); return err },
		"idle":      func() error { _, err := former.Apply(t.Context(), change.Batch{Through: b.m.next()}); return err },
	} {
		former.owner = owner // as if it had not heard of it yet
		if err := call(); !errors.Is(err, change.ErrFenced) {
			t.Errorf("%s of a former leader: %v, want ErrFenced", name, err)
		}
		if err := call(); !errors.Is(err, change.ErrFenced) {
			t.Errorf("%s once it knows: %v, want ErrFenced", name, err)
		}
	}
	b.check()
}

// S4: nothing expires, whatever wrote it last.
func TestNothingExpires(t *testing.T) {
	b := filled(t)
	for name, write := range map[string]func() error{
		"Apply": func() error {
			tx := b.m.begin().put(team, "1", modelRow{"api_token": "phc_new"}).put(flag, "11", modelRow{"team_id": 2}).commit()
			_, err := b.Apply(t.Context(), change.Batch{Txs: []*change.Tx{tx}, Through: tx.EndLSN})
			return err
		},
		"idle":    func() error { _, err := b.Apply(t.Context(), change.Batch{Through: b.m.next()}); return err },
		"Beat":    func() error { return b.Beat(t.Context(), true) },
		"Mark":    func() error { return b.Mark(t.Context(), "to be reconciled") },
		"Confirm": func() error { return b.Confirm(t.Context(), testSource) },
		"Acquire": func() error { _, err := b.Acquire(t.Context()); return err },
		"Reconcile": func() error {
			b.m.begin().put(flag, "10", modelRow{"active": false}).commit()
			_, err := b.Reconcile(t.Context(), b.m.copy("test"))
			return err
		},
	} {
		if err := write(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		keys := b.allKeys()
		if len(keys) < 6 { // two teams, their list, tokens, meta, changes
			t.Errorf("%s: only %q", name, keys)
		}
		for _, key := range keys {
			if ttl := b.redis.PTTL(t.Context(), key).Val(); ttl != -1 { // go-redis' word for none
				t.Errorf("%s: %s expires in %v", name, key, ttl)
			}
		}
	}
}

// F32, S9: a cache that was emptied is noticed with the next write of any kind.
func TestFlushIsNoticed(t *testing.T) {
	for name, call := range map[string]func(b *bundle) error{
		"Apply": func(b *bundle) error {
			tx := b.m.begin().put(flag, "11", modelRow{"active": true}).commit()
			_, err := b.Apply(b.t.Context(), change.Batch{Txs: []*change.Tx{tx}, Through: tx.EndLSN})
			return err
		},
		"Beat": func(b *bundle) error { return b.Beat(b.t.Context(), true) },
	} {
		t.Run(name, func(t *testing.T) {
			b := filled(t)
			b.flush()
			if err := call(b); !errors.Is(err, change.ErrFenced) {
				t.Fatalf("got %v, want ErrFenced", err)
			}
			if keys := b.allKeys(); len(keys) != 0 {
				t.Errorf("%q were written to a cache that is not ours", keys)
			}
			if position := b.acquire(); position != (change.Position{}) {
				t.Errorf("Acquire = %+v, want nothing", position)
			}
			b.fill()
			b.check()
		})
	}
}
