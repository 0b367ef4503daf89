package store

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The index against a map, and earlier copies against what they held: a change must not reach them.
func TestIndexIsPersistent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var x index[int64, int]
		want := map[int64]int{}
		type copied struct {
			x    index[int64, int]
			want map[int64]int
		}
		var before []copied
		for range rapid.IntRange(1, 8).Draw(t, "edits") {
			before = append(before, copied{x, maps.Clone(want)})
			edit := x.edit()
			for range rapid.IntRange(0, 20).Draw(t, "changes") {
				key, value := rapid.Int64Range(0, 30).Draw(t, "key"), rapid.IntRange(0, 3).Draw(t, "value")
				if value == 0 {
					edit.remove(key)
					delete(want, key)
				} else {
					edit.set(key, value)
					want[key] = value
				}
			}
			x = edit.done()
		}
		before = append(before, copied{x, want})
		for n, c := range before {
			if got := maps.Collect(c.x.all()); !maps.Equal(got, c.want) || c.x.size != len(c.want) {
				t.Fatalf("copy %d holds %v (size %d), want %v", n, got, c.x.size, c.want)
			}
			for key := range int64(31) {
				got, ok := c.x.get(key)
				if want, there := c.want[key]; got != want || ok != there {
					t.Fatalf("copy %d, key %d: %d, %t", n, key, got, ok)
				}
			}
		}
	})
}

// Drafts against a plain map of teams: tokens, projects and sizes follow from the teams, whatever the order of changes.
func TestDraftsKeepTheViewConsistent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := &view{}
		model := map[int64]*team{}
		for range rapid.IntRange(1, 10).Draw(t, "drafts") {
			d := newDraft(v)
			for range rapid.IntRange(1, 4).Draw(t, "teams") {
				id := rapid.Int64Range(1, 5).Draw(t, "id")
				if rapid.Bool().Draw(t, "gone") {
					d.teams[id] = nil
					delete(model, id)
					continue
				}
				next := &team{id: id, token: rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e"}).Draw(t, "token"), project: rapid.Int64Range(0, 2).Draw(t, "project")}
				d.teams[id], model[id] = next, next
			}
			// Whatever remains entangled would have been read again: leave out what no cache at one position can hold.
			tokens := map[string]int{}
			for _, m := range model {
				if m.token != "" {
					tokens[m.token]++
				}
			}
			if slices.ContainsFunc(slices.Collect(maps.Values(tokens)), func(n int) bool { return n > 1 }) {
				if len(d.entangled(nil)) == 0 {
					t.Fatalf("two teams with one token are not entangled: %v", tokens)
				}
				model = map[int64]*team{}
				for id, m := range v.teams.all() {
					model[id] = m
				}
				continue
			}
			if found := d.entangled(nil); len(found) != 0 {
				t.Fatalf("entangled: %v", found)
			}
			v = d.apply(true)
			compareView(t, v, model)
			for id, m := range v.teams.all() {
				model[id] = m // siblings were renewed
			}
		}
	})
}

func compareView(t *rapid.T, v *view, model map[int64]*team) {
	tokens, projects, records := map[string]int64{}, map[int64][]int64{}, int64(0)
	for _, id := range slices.Sorted(maps.Keys(model)) {
		m := model[id]
		if m.token != "" {
			tokens[m.token] = id
		}
		if m.project != 0 {
			projects[m.project] = append(projects[m.project], id)
		}
		records += m.bytes()
	}
	gotTokens, gotProjects := map[string]int64{}, map[int64][]int64{}
	for token, m := range v.tokens.all() {
		gotTokens[token] = m.id
		if current, _ := v.teams.get(m.id); current != m {
			t.Fatalf("token %s leads to a team of another view", token)
		}
	}
	for project, all := range v.projects.all() {
		for _, m := range all {
			gotProjects[project] = append(gotProjects[project], m.id)
			if current, _ := v.teams.get(m.id); current != m {
				t.Fatalf("project %d leads to a team of another view", project)
			}
		}
	}
	if got, want := fmt.Sprint(gotTokens, gotProjects, v.records, v.teams.size), fmt.Sprint(tokens, projects, records, len(model)); got != want {
		t.Fatalf("view has %s, want %s", got, want)
	}
}
