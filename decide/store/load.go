package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/everflag/everflag/internal/flagcache"
)

const (
	scanCount   = 2000
	teamsPerGet = 500
	bulkReaders = 3 // pipelines in flight: while one reply is unpacked, Redis works on the others
)

// errNoHash means that the index of teams names a team that has no records.
var errNoHash = errors.New("the index names a team that has no records")

// revalidate compares the versions of all teams with the cache, reads those that differ, and drops those that are gone. The stream is followed from
// where meta stood before the first look, so whatever changes meanwhile comes once more. A cache that is not settled, or that went back, only adds and
// renews: what it lacks stays. If it does not get to the end, it is owed: the stream tells nothing of what was not read.
func (f *follower) revalidate(ctx context.Context, meta flagcache.Meta, reason string) error {
	start := time.Now()
	f.metrics.revalidations.WithLabelValues(reason).Inc()
	f.enter(meta)
	f.cursor.owed = reason
	trusted := settled(meta) && !f.cursor.distrust
	found, err := f.scan(ctx, trusted)
	if err != nil {
		return err
	}
	d := newDraft(f.view.Load())
	missing, err := f.fetch(ctx, d, found.unequal)
	if err != nil {
		return err
	}
	if err := f.settleTokens(ctx, d); err != nil {
		return err
	}
	f.cursor.held = found.held > 0 || !trusted && len(found.absent) > 0
	if trusted {
		missing = append(missing, found.absent...)
	}
	for some := range slices.Chunk(missing, entriesPerRead) {
		if _, err := f.read(ctx, d, some, nil); err != nil {
			return err
		}
	}
	f.publish(d)
	f.cursor.owed = ""
	f.loaded(len(d.teams))
	f.log.Info("compared the cache", zap.String("reason", reason), zap.Int64("epoch", meta.Epoch), zap.Bool("complete", meta.Complete),
		zap.String("reconcile", meta.Reconcile), zap.Int("teams", f.view.Load().teams.size), zap.Int("changed", len(d.teams)),
		zap.Bool("kept_back", f.cursor.held), zap.Duration("took", time.Since(start)))
	return nil
}

// enter makes the cache that meta describes the one to follow.
func (f *follower) enter(meta flagcache.Meta) {
	c := &f.cursor
	switch {
	case c.wentBack(meta):
		c.distrust, c.heartbeat = true, meta.Heartbeat
	case c.distrust && settled(meta) && meta.Heartbeat > c.heartbeat:
		// A writer has found this cache to be as it left it, or has made it equal to its source.
		c.distrust, c.checkpoint = false, checkpointOf(meta)
	}
	c.owner, c.epoch, c.seq = meta.Owner, meta.Epoch, meta.Seq
	c.resolved, c.held = false, false
	f.reportCertainty()
}

// scanned is what a comparison of versions found.
type scanned struct {
	unequal []int64 // teams to read
	absent  []int64 // teams in the view that the cache lacks
	held    int     // teams that stay although the cache has another version of them
}

// scan compares the index of teams with the view.
func (f *follower) scan(ctx context.Context, trusted bool) (scanned, error) {
	var found scanned
	v := f.view.Load()
	seen := make(map[int64]struct{}, v.teams.size)
	var at uint64
	for {
		page, next, err := f.scanPage(ctx, at)
		if err != nil {
			return scanned{}, err
		}
		for i := 0; i+1 < len(page); i += 2 {
			id, err := strconv.ParseInt(page[i], 10, 64)
			if err != nil {
				return scanned{}, fmt.Errorf("comparing versions: the index of teams has a field %q", page[i])
			}
			if _, twice := seen[id]; twice {
				continue
			}
			seen[id] = struct{}{}
			f.compare(&found, v, id, page[i+1], trusted)
		}
		if at = next; at == 0 {
			break
		}
	}
	for id := range v.teams.all() {
		if _, ok := seen[id]; !ok {
			found.absent = append(found.absent, id)
		}
	}
	for id := range f.torn { // what the cache no longer names contradicts nothing
		if _, ok := seen[id]; !ok {
			delete(f.torn, id)
		}
	}
	return found, nil
}

func (f *follower) compare(found *scanned, v *view, id int64, text string, trusted bool) {
	ours, ok := v.teams.get(id)
	if !ok {
		found.unequal = append(found.unequal, id)
		return
	}
	theirs, err := parseVersion(text)
	switch {
	case err == nil && theirs == ours.version:
	case err == nil && !trusted && !theirs.newer(ours.version):
		found.held++
	default:
		found.unequal = append(found.unequal, id)
	}
}

func (f *follower) scanPage(ctx context.Context, at uint64) (page []string, next uint64, err error) {
	ctx, cancel := step(ctx, scanTimeout, "comparing versions")
	defer cancel()
	page, next, err = f.client.HScan(ctx, f.keys.Teams, at, "", scanCount).Result()
	if err != nil {
		return nil, 0, fmt.Errorf("comparing versions: %w", explain(ctx, err))
	}
	return page, next, nil
}

// fetch adds the teams to the draft, each as a whole but not all of one moment. It returns those that the cache does not have after all.
func (f *follower) fetch(ctx context.Context, d *draft, ids []int64) (missing []int64, err error) {
	var mu sync.Mutex // guards the draft, the torn teams and missing
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(bulkReaders)
	for some := range slices.Chunk(ids, teamsPerGet) {
		get := func() error {
			hashes, err := f.hashes(ctx, some)
			if err != nil {
				return err
			}
			known := f.codecs.forTeams(max(len(ids), d.base.teams.size), hashes)
			var p packer
			for i, id := range some {
				t, err := p.pack(id, hashes[i], known)
				mu.Lock()
				switch {
				case len(hashes[i]) == 0:
					missing = append(missing, id)
				case err != nil:
					f.tear(id, err)
				default:
					d.teams[id] = t
					delete(f.torn, id)
				}
				mu.Unlock()
			}
			return nil
		}
		if f.codecs.current.Load() == nil {
			// The first teams are the sample that the dictionary is made from.
			if err := get(); err != nil {
				return nil, err
			}
			continue
		}
		group.Go(func() error { return contained(get) })
	}
	err = group.Wait()
	return missing, err
}

// hashes reads the hashes of teams.
func (f *follower) hashes(ctx context.Context, ids []int64) ([]map[string]string, error) {
	ctx, cancel := step(ctx, bulkTimeout, "reading teams")
	defer cancel()
	replies := make([]*redis.MapStringStringCmd, len(ids))
	_, err := f.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, id := range ids {
			replies[i] = pipe.HGetAll(ctx, f.keys.Team(id))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading teams: %w", explain(ctx, err))
	}
	hashes := make([]map[string]string, len(ids))
	for i, reply := range replies {
		hashes[i] = reply.Val()
	}
	return hashes, nil
}

// settleTokens reads once more, in one transaction, the teams whose tokens moved while the draft was read.
func (f *follower) settleTokens(ctx context.Context, d *draft) error {
	holders := make(map[string]int64)
	for some := range slices.Chunk(d.lost(), teamsPerGet) {
		if err := f.holders(ctx, some, holders); err != nil {
			return err
		}
	}
	moved := d.entangled(holders)
	if len(moved) == 0 {
		return nil
	}
	_, err := f.read(ctx, d, moved, nil)
	return err
}

func (f *follower) holders(ctx context.Context, tokens []string, into map[string]int64) error {
	ctx, cancel := step(ctx, readTimeout, "reading the holders of tokens")
	defer cancel()
	replies, err := f.client.HMGet(ctx, f.keys.Tokens, tokens...).Result()
	if err != nil {
		return fmt.Errorf("reading the holders of tokens: %w", explain(ctx, err))
	}
	for i, token := range tokens {
		text, _ := replies[i].(string)
		if id, err := strconv.ParseInt(text, 10, 64); err == nil {
			into[token] = id
		}
	}
	return nil
}
