package cachewriter

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
)

// Compare reports where the cache differs from the copy. It writes nothing and needs no leadership.
func (w *Writer) Compare(ctx context.Context, c change.Copy) ([]change.Difference, error) {
	cached, err := w.readCached(ctx)
	if err != nil {
		return nil, err
	}
	var all []change.Difference
	owners := maps.Clone(cached.tokens)
	err = w.compareTeams(ctx, c.Teams, func(_ context.Context, group []*comparison) error {
		for _, team := range group {
			all = append(all, team.report(cached.teams, owners)...)
			delete(cached.teams, team.team)
			delete(cached.tokens, team.token)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, team := range slices.Sorted(maps.Keys(cached.teams)) {
		all = append(all, change.Difference{Team: team, Entity: flagcache.EntityTeam, Key: strconv.FormatInt(team, 10), Detail: "the source has no such team"})
	}
	for _, token := range slices.Sorted(maps.Keys(cached.tokens)) {
		team := cached.tokens[token]
		all = append(all, change.Difference{Team: team, Entity: "token", Key: strconv.FormatInt(team, 10), Detail: "a token that no team has"})
	}
	return all, nil
}

// report lists the differences of one team.
func (c *comparison) report(listed map[int64]struct{}, owners map[string]int64) (all []change.Difference) {
	add := func(entity, key, detail, source, cached string) {
		all = append(all, change.Difference{Team: c.team, Entity: entity, Key: key, Detail: detail, State: stateOf(source, cached)})
	}
	id := strconv.FormatInt(c.team, 10)
	if owner, has := owners[c.token]; c.token != "" && (!has || owner != c.team) {
		detail := "not in the token index"
		if has {
			detail = "the token index names team " + strconv.FormatInt(owner, 10)
		}
		add("token", id, detail, c.token, strconv.FormatInt(owner, 10))
	}
	if _, has := listed[c.team]; !has && len(c.stored) == 0 {
		add(flagcache.EntityTeam, id, "the cache has no such team", "", "")
		return all
	}
	if version := c.stored[flagcache.VersionField]; version == "" || version != c.listedVersion {
		add("version", id, "the team's version and the listed one differ", version, c.listedVersion)
	}
	for _, f := range c.fields {
		record, has := c.stored[flagcache.Field(f.row.entity, f.row.key)]
		switch {
		case !has:
			add(f.row.entity, f.row.key, "missing in the cache", string(f.record), "")
		case record != string(f.record):
			add(f.row.entity, f.row.key, "differs in "+strings.Join(differing([]byte(record), f.record), ", "), string(f.record), record)
		}
	}
	for _, name := range c.extra() {
		entity, key, known := flagcache.ParseField(name)
		if !known {
			entity, key = "field", name
		}
		add(entity, key, "the source has no such row", "", c.stored[name])
	}
	return all
}

// stateOf tells two pairs of texts apart.
func stateOf(source, cached string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, source) // a hash takes everything
	_, _ = h.Write([]byte{0})
	_, _ = io.WriteString(h, cached)
	return h.Sum64()
}

// differing names the members in which two records differ; values may be secrets.
func differing(a, b []byte) []string {
	left, errLeft := flagcache.Record{JSON: a}.Members()
	right, errRight := flagcache.Record{JSON: b}.Members()
	if errLeft != nil || errRight != nil {
		return []string{"its form"}
	}
	names := map[string]bool{}
	for name, value := range left {
		if other, has := right[name]; !has || string(other) != string(value) {
			names[name] = true
		}
	}
	for name := range right {
		if _, has := left[name]; !has {
			names[name] = true
		}
	}
	if len(names) == 0 {
		return []string{"the order of its members"}
	}
	return slices.Sorted(maps.Keys(names))
}

// compareTeams reads what the cache has of the teams of a copy, group by group, and hands both to each. A group is as large as one script may be. While
// each has one group, the next is read; it never has two.
func (w *Writer) compareTeams(
	ctx context.Context, teams iter.Seq2[change.TeamRows, error], each func(ctx context.Context, group []*comparison) error,
) error {
	const maxTeams, maxBytes = 500, maxBatch / 2
	done := make(chan error, 1)
	done <- nil
	defer func() { <-done }() // nothing of this call outlives it
	var group []*comparison
	size := 0
	flush := func() error {
		err := w.readGroup(ctx, group)
		if before := <-done; before != nil || err != nil {
			done <- nil
			return cmp.Or(before, err)
		}
		go func(group []*comparison) { done <- each(ctx, group) }(group)
		group, size = nil, 0
		return nil
	}
	for team, err := range teams {
		if err != nil {
			return err
		}
		c, err := newComparison(team)
		if err != nil {
			return &Error{Step: "reading the copy", Class: ClassOther, Err: err}
		}
		if len(group) > 0 && (len(group) == maxTeams || size+c.size > maxBytes) {
			if err := flush(); err != nil {
				return err
			}
		}
		group, size = append(group, c), size+c.size
	}
	if err := flush(); err != nil {
		return err
	}
	err := <-done
	done <- nil
	return err
}

// readGroup reads the hashes and listed versions of a group.
func (w *Writer) readGroup(ctx context.Context, group []*comparison) error {
	ids := make([]int64, len(group))
	listed := make([]*redis.StringCmd, 0, len(group))
	for i, c := range group {
		ids[i] = c.team
	}
	hashes, err := pipeline(ctx, w, "reading teams", ids, func(ctx context.Context, pipe redis.Pipeliner, team int64) *redis.MapStringStringCmd {
		listed = append(listed, pipe.HGet(ctx, w.keys.Teams, strconv.FormatInt(team, 10)))
		return pipe.HGetAll(ctx, w.keys.Team(team))
	})
	if err != nil {
		return err
	}
	for i, c := range group {
		if err := listed[i].Err(); err != nil && !errors.Is(err, redis.Nil) {
			return w.classify(ctx, "reading versions", err)
		}
		c.stored, c.listedVersion = hashes[i].Val(), listed[i].Val()
	}
	return nil
}
