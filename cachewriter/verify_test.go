package cachewriter

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/everflag/everflag/internal/change"
)

// Differences name what differs, without values.
func TestCompareNamesDifferences(t *testing.T) { // F38
	b := filled(t)
	tag := "{" + b.prefix + "}:"
	record := b.redis.HGet(t.Context(), tag+"team:1", "flag:11").Val()
	b.redis.HSet(t.Context(), tag+"team:1", "flag:11", strings.Replace(record, `"active":false`, `"active":true`, 1), "flag:99", "{}", "@v", "x")
	b.redis.HDel(t.Context(), tag+"team:1", "experiment:3")
	b.redis.HSet(t.Context(), tag+"tokens", "phc_one", 2, "phc_stray", 2)
	b.redis.Del(t.Context(), tag+"team:2")
	b.redis.HDel(t.Context(), tag+"teams", "2")
	b.redis.HSet(t.Context(), tag+"teams", "7", "v")
	got, err := b.Compare(context.WithoutCancel(t.Context()), b.m.copy("verify"))
	want := []change.Difference{
		{Team: 1, Entity: "token", Key: "1", Detail: "the token index names team 2"},
		{Team: 1, Entity: "version", Key: "1", Detail: "the team's version and the listed one differ"},
		{Team: 1, Entity: experiment, Key: "3", Detail: "missing in the cache"},
		{Team: 1, Entity: flag, Key: "11", Detail: "differs in active"},
		{Team: 1, Entity: flag, Key: "99", Detail: "the source has no such row"},
		{Team: 2, Entity: team, Key: "2", Detail: "the cache has no such team"},
		{Team: 7, Entity: team, Key: "7", Detail: "the source has no such team"},
		{Team: 2, Entity: "token", Key: "2", Detail: "a token that no team has"},
	}
	byKey := cmp.Transformer("sort", func(all []change.Difference) map[string]change.Difference {
		m := map[string]change.Difference{}
		for _, d := range all {
			d.State = 0 // see the next test
			m[fmt.Sprintf("%d %s %s %s", d.Team, d.Entity, d.Key, d.Detail)] = d
		}
		return m
	})
	if diff := cmp.Diff(want, got, byKey); err != nil || diff != "" {
		t.Errorf("Compare: %v (-want +got):\n%s", err, diff)
	}
}

// A difference has the same state as long as neither side changes.
func TestDifferencesKnowTheirState(t *testing.T) {
	b := filled(t)
	key := "{" + b.prefix + "}:team:1"
	damage := func(key string, text string) uint64 {
		b.redis.HSet(t.Context(), key, "flag:11", text)
		got, err := b.Compare(t.Context(), b.m.copy("verify"))
		if err != nil || len(got) != 1 {
			t.Fatalf("Compare = %v, %v", got, err)
		}
		return got[0].State
	}
	first := damage(key, `{"id":1}`)
	if again := damage(key, `{"id":1}`); again != first {
		t.Errorf("state %d, then %d, though nothing has changed", first, again)
	}
	if other := damage(key, `{"id":2}`); other == first {
		t.Error("the state is the same though the cache has changed")
	}
	b.m.begin().put(flag, "11", modelRow{"key": "delta"}).commit() // not applied
	if other := damage(key, `{"id":1}`); other == first {
		t.Error("the state is the same though the source has changed")
	}
}
