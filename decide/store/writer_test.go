package store

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/flagcache"
)

// writer stands in for the replicator: it writes the cache's layout, every change in one transaction.
type writer struct {
	t      testing.TB
	client redis.UniversalClient
	keys   flagcache.Keys

	mu     sync.Mutex
	owner  string
	epoch  int64
	seq    int64
	lsn    uint64
	tokens map[int64]string // of the teams that exist
}

// definition is a team as a test describes it.
type definition struct {
	id      int64
	token   string // "" = tokenOf(id)
	project int64
	mark    string // stands in every record, so that a test can tell which of them belong together
	flags   int
}

func tokenOf(id int64) string { return fmt.Sprintf("phc_%d", id) }

func (d definition) hash() map[string]string {
	token := d.token
	if token == "" {
		token = tokenOf(d.id)
	}
	hash := map[string]string{
		"team": fmt.Sprintf(`{"id":%d,"project_id":%d,"api_token":%q,"name":"Team %d %s","timezone":"UTC"}`, d.id, d.project, token, d.id, d.mark),
	}
	for n := range d.flags {
		id := d.id*1000 + int64(n)
		hash["flag:"+strconv.FormatInt(id, 10)] = fmt.Sprintf(
			`{"id":%d,"key":"flag-%d","name":%q,"active":true,"filters":{"groups": [{"properties": [], "rollout_percentage": 100}]},"version":1}`, id, n, d.mark)
	}
	return hash
}

func newWriter(t testing.TB, client redis.UniversalClient, prefix string) *writer {
	return &writer{t: t, client: client, keys: flagcache.NewKeys(prefix), epoch: 1790000000000, lsn: 0x1000, tokens: make(map[int64]string)}
}

// lead makes the writer the owner of the cache, with a higher epoch.
func (w *writer) lead(owner string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owner, w.epoch, w.seq = owner, w.epoch+1, 0
	w.exec(func(ctx context.Context, pipe redis.Pipeliner) {
		pipe.HSet(ctx, w.keys.Meta, flagcache.MetaSchema, flagcache.SchemaVersion, flagcache.MetaOwner, owner, flagcache.MetaEpoch, w.epoch, flagcache.MetaSeq, 0)
	})
}

// fill leads, writes the teams and declares the cache complete.
func (w *writer) fill(owner string, teams ...definition) {
	w.t.Helper()
	w.lead(owner)
	w.put(teams...)
	w.set(flagcache.MetaComplete, "1")
	w.beat()
}

// set sets members of meta.
func (w *writer) set(fields ...any) {
	w.t.Helper()
	w.exec(func(ctx context.Context, pipe redis.Pipeliner) { pipe.HSet(ctx, w.keys.Meta, fields...) })
}

// beat writes the heartbeat.
func (w *writer) beat() {
	w.t.Helper()
	now, err := w.client.Time(w.t.Context()).Result()
	if err != nil {
		w.t.Fatalf("asking for the time: %v", err)
	}
	w.set(flagcache.MetaHeartbeat, now.UnixMilli())
}

// put writes the teams in one transaction: deletes of tokens before sets.
func (w *writer) put(teams ...definition) {
	w.t.Helper()
	w.commit(teams, nil)
}

// remove deletes the teams in one transaction.
func (w *writer) remove(ids ...int64) {
	w.t.Helper()
	w.commit(nil, ids)
}

func (w *writer) commit(teams []definition, gone []int64) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lsn += 16
	version := flagcache.Version(w.epoch, w.lsn)
	w.exec(func(ctx context.Context, pipe redis.Pipeliner) {
		for _, id := range gone {
			w.dropToken(ctx, pipe, id)
			pipe.Del(ctx, w.keys.Team(id))
			pipe.HDel(ctx, w.keys.Teams, strconv.FormatInt(id, 10))
			w.entry(ctx, pipe, "team", id, "version", version, "at", time.Now().UnixMicro())
		}
		for _, d := range teams {
			w.dropToken(ctx, pipe, d.id)
		}
		for _, d := range teams {
			token := d.token
			if token == "" {
				token = tokenOf(d.id)
			}
			w.tokens[d.id] = token
			pipe.Del(ctx, w.keys.Team(d.id))
			pipe.HSet(ctx, w.keys.Team(d.id), d.hash())
			pipe.HSet(ctx, w.keys.Team(d.id), flagcache.VersionField, version)
			pipe.HSet(ctx, w.keys.Teams, strconv.FormatInt(d.id, 10), version)
			pipe.HSet(ctx, w.keys.Tokens, token, d.id)
			w.entry(ctx, pipe, "team", d.id, "version", version, "at", time.Now().UnixMicro())
		}
		pipe.HSet(ctx, w.keys.Meta, flagcache.MetaSeq, w.seq, flagcache.MetaCheckpoint, fmt.Sprintf("%X/%X", uint32(w.lsn>>32), uint32(w.lsn)))
	})
}

func (w *writer) dropToken(ctx context.Context, pipe redis.Pipeliner, id int64) {
	if token, ok := w.tokens[id]; ok {
		pipe.HDel(ctx, w.keys.Tokens, token)
		delete(w.tokens, id)
	}
}

// mark writes the entry that ends a reconcile.
func (w *writer) markReconciled() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exec(func(ctx context.Context, pipe redis.Pipeliner) {
		w.entry(ctx, pipe, "mark", flagcache.MarkReconciled)
		pipe.HSet(ctx, w.keys.Meta, flagcache.MetaSeq, w.seq, flagcache.MetaComplete, "1", flagcache.MetaReconcile, "")
	})
}

func (w *writer) entry(ctx context.Context, pipe redis.Pipeliner, values ...any) {
	w.seq++
	pipe.XAdd(ctx, &redis.XAddArgs{Stream: w.keys.Changes, ID: fmt.Sprintf("%d-%d", w.epoch, w.seq), Values: values})
}

func (w *writer) exec(commands func(ctx context.Context, pipe redis.Pipeliner)) {
	w.t.Helper()
	ctx := w.t.Context()
	if _, err := w.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error { commands(ctx, pipe); return nil }); err != nil {
		w.t.Fatalf("writing the cache: %v", err)
	}
}

// beatUntil beats every few milliseconds until stop is called.
func (w *writer) beating() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				// Redis may be away: that is what some tests are about.
				if now, err := w.client.Time(ctx).Result(); err == nil {
					w.client.HSet(ctx, w.keys.Meta, flagcache.MetaHeartbeat, now.UnixMilli())
				}
			}
		}
	})
	return func() { cancel(); running.Wait() }
}
