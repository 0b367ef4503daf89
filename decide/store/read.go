package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/flagcache"
)

// maxEntangled bounds how often a read is repeated for teams whose tokens moved meanwhile. Each repetition is a transaction that sees one state, so the
// second or third settles it; a cache that contradicts itself is served as it is.
const maxEntangled = 8

// read adds the teams to the draft, as they stand at one moment, together with all teams that the change of tokens concerns. It returns meta at that
// moment. named are those that the stream named.
func (f *follower) read(ctx context.Context, d *draft, ids []int64, named map[int64]struct{}) (flagcache.Meta, error) {
	var meta flagcache.Meta
	wanted := slices.Clone(ids)
	for range maxEntangled {
		got, err := f.readOnce(ctx, d, wanted)
		if err != nil {
			return meta, err
		}
		meta = got.meta
		f.take(d, got, named)
		more := d.entangled(got.holders)
		more = slices.DeleteFunc(more, func(id int64) bool { return slices.Contains(wanted, id) })
		if len(more) == 0 {
			break
		}
		wanted = append(wanted, more...)
	}
	return meta, nil
}

// reading is the reply to one transaction of reads.
type reading struct {
	meta     flagcache.Meta
	hashes   map[int64]map[string]string
	versions map[int64]string // of the index of teams
	holders  map[string]int64 // of the tokens that the teams of the reading have in the view
}

// readOnce reads the teams in one transaction.
func (f *follower) readOnce(ctx context.Context, d *draft, ids []int64) (reading, error) {
	ctx, cancel := step(ctx, readTimeout, "reading changed teams")
	defer cancel()
	var tokens []string
	fields := make([]string, len(ids))
	for i, id := range ids {
		fields[i] = strconv.FormatInt(id, 10)
		if old, ok := d.base.teams.get(id); ok && old.token != "" {
			tokens = append(tokens, old.token)
		}
	}
	var meta *redis.MapStringStringCmd
	var versions, holders *redis.SliceCmd
	hashes := make([]*redis.MapStringStringCmd, len(ids))
	_, err := f.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		meta = pipe.HGetAll(ctx, f.keys.Meta)
		versions = pipe.HMGet(ctx, f.keys.Teams, fields...)
		if len(tokens) > 0 {
			holders = pipe.HMGet(ctx, f.keys.Tokens, tokens...)
		}
		for i, id := range ids {
			hashes[i] = pipe.HGetAll(ctx, f.keys.Team(id))
		}
		return nil
	})
	if err != nil {
		return reading{}, fmt.Errorf("reading changed teams: %w", explain(ctx, err))
	}
	got := reading{hashes: make(map[int64]map[string]string, len(ids)), versions: make(map[int64]string, len(ids)), holders: make(map[string]int64)}
	if got.meta, err = flagcache.ParseMeta(meta.Val()); err != nil {
		return reading{}, fmt.Errorf("reading changed teams: %w", err)
	}
	if got.meta.Owner != f.cursor.owner || got.meta.Epoch != f.cursor.epoch || got.meta.Schema > flagcache.SchemaVersion {
		return reading{}, errMoved
	}
	for i, id := range ids {
		got.hashes[id] = hashes[i].Val()
		got.versions[id], _ = versions.Val()[i].(string)
	}
	for i, token := range tokens {
		text, _ := holders.Val()[i].(string)
		if id, err := strconv.ParseInt(text, 10, 64); err == nil {
			got.holders[token] = id
		}
	}
	return got, nil
}

// take puts what was read into the draft. A team that is not there and not in the index of teams is deleted if the stream named it: the leader wrote that
// entry when it took the team away. If a scan missed it, it is deleted only if the cache is settled. One that contradicts itself stays as it was.
func (f *follower) take(d *draft, got reading, named map[int64]struct{}) {
	var p packer
	known := f.codecs.forTeams(d.base.teams.size, slices.Collect(maps.Values(got.hashes)))
	work := newBreather()
	for id, hash := range got.hashes {
		work.pause()
		_, isNamed := named[id]
		switch {
		case len(hash) > 0:
			t, err := p.pack(id, hash, known)
			if err != nil {
				f.tear(id, err)
				continue
			}
			d.teams[id] = t
			delete(f.torn, id)
		case got.versions[id] != "":
			f.tear(id, errNoHash)
		case !isNamed && !settled(got.meta):
			if _, ok := d.base.teams.get(id); ok {
				f.cursor.held = true
			}
		default:
			if _, ok := d.base.teams.get(id); ok {
				d.teams[id] = nil
			}
			delete(f.torn, id)
		}
	}
}

// tear notes that the cache's records of a team cannot be used: the team is served as it was, and no token is called absent until this is over.
func (f *follower) tear(id int64, err error) {
	if _, known := f.torn[id]; !known {
		f.log.Error("a team in the cache is not readable, serving it as it was", zap.Int64("team_id", id), zap.Error(err))
		f.metrics.unreadable.Inc()
	}
	f.torn[id] = struct{}{}
}
