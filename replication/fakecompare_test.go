package replication

import (
	"context"
	"maps"
	"strings"

	"github.com/everflag/everflag/internal/change"
)

func (f *fakeSink) Compare(_ context.Context, c change.Copy) ([]change.Difference, error) {
	f.mu.Lock()
	_, err := f.enter("compare")
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	copied := map[int64]map[string]fakeRecord{}
	for team, err := range c.Teams {
		if err != nil {
			return nil, err
		}
		if f.onTeam != nil {
			f.onTeam(team.Team)
		}
		copied[team.Team] = map[string]fakeRecord{}
		for _, row := range team.Rows {
			copied[team.Team][row.Table.Entity+":"+row.Key] = render(row)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []change.Difference
	for team := range union(copied, f.cache.teams) {
		for id := range union(copied[team], f.cache.teams[team]) {
			a, inCopy := copied[team][id]
			b, inCache := f.cache.teams[team][id]
			if inCopy != inCache || !maps.Equal(a.values, b.values) {
				entity, key, _ := strings.Cut(id, ":")
				found = append(found, change.Difference{Team: team, Entity: entity, Key: key, Detail: "differs"})
			}
		}
	}
	return found, nil
}

func (f *fakeSink) Try(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.enter("try")
	return err
}

func union[K comparable, V any](a, b map[K]V) map[K]bool {
	all := map[K]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return all
}

func sameTeam(a, b map[string]fakeRecord) bool {
	return maps.EqualFunc(a, b, func(x, y fakeRecord) bool { return x.order == y.order && maps.Equal(x.values, y.values) })
}
