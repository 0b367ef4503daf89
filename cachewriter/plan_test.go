package cachewriter

import (
	goflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
)

var update = goflag.Bool("update", false, "write golden files")

// TestPlan holds the net effect of batches to testdata/plan: what is read first, what each team gets and loses, tokens, marker, and the index after it.
// F40, F41, F42
func TestPlan(t *testing.T) {
	const web, aa = "0190a0b0-0000-7000-8000-000000000001", "0190a0b0-0000-7000-8000-0000000000aa"
	small := func(n int) modelRow { return modelRow{"n": n} }
	for _, test := range []struct {
		name  string
		lacks []row // records that the cache has lost
		txs   func(m *model) []*change.Tx
	}{
		{"insert", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().put(flag, "12", modelRow{"team_id": 2, "active": true}).commit()}
		}},
		{"the last of several updates", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().put(flag, "11", small(1)).commit(), m.begin().put(flag, "11", small(2)).put(flag, "11", small(3)).commit()}
		}},
		{"insert and delete", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().put(flag, "12", modelRow{"team_id": 2}).commit(), m.begin().remove(flag, "12").commit()}
		}},
		{"delete and insert", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().remove(cohort, "5").commit(), m.begin().put(cohort, "5", modelRow{"team_id": 1}).commit()}
		}},
		{"unchanged column from the cache", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().put(flag, "11", modelRow{"active": true}, "filters").commit()}
		}},
		{"unchanged column from the same batch", nil, func(m *model) []*change.Tx {
			return []*change.Tx{
				m.begin().put(flag, "13", modelRow{"team_id": 2, "name": "n"}).commit(), m.begin().put(flag, "13", modelRow{"team_id": 2, "n": 1}, "name").commit(),
			}
		}},
		{"unchanged column of a lost record", []row{{flag, "11"}}, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().put(flag, "11", modelRow{"active": true}, "filters").put(cohort, "5", small(1)).commit()}
		}},
		{"unchanged column of a row that was hidden", nil, func(m *model) []*change.Tx {
			return []*change.Tx{
				m.begin().put(flag, "11", modelRow{"deleted": true}, "filters").commit(), m.begin().put(flag, "11", modelRow{"deleted": false}, "filters").commit(),
			}
		}},
		{"a flag moves and its children follow", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().put(flag, "10", modelRow{"team_id": 2, "filters": "f"}).commit()}
		}},
		{"a flag moves and the record of a child is lost", []row{{experiment, "3"}}, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().put(flag, "10", modelRow{"team_id": 2, "filters": "f"}).commit()}
		}},
		{"a hidden flag keeps its children", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().put(flag, "10", modelRow{"deleted": true}).commit(), m.begin().put(experiment, "3", small(1)).commit()}
		}},
		{"hidden flags change their keys", nil, func(m *model) []*change.Tx {
			return []*change.Tx{
				m.begin().put(flag, "10", modelRow{"deleted": true}).put(flag, "11", modelRow{"deleted": true, "team_id": 2}).commit(),
				m.begin().rename(flag, "11", "12", nil).commit(),
				m.begin().put(experiment, "3", modelRow{"feature_flag_id": 11}).rename(flag, "10", "11", nil).commit(),
			}
		}},
		{"a child changes its parent", nil, func(m *model) []*change.Tx {
			return []*change.Tx{
				m.begin().put(flag, "12", modelRow{"team_id": 2}).commit(), m.begin().put(flagContext, aa, modelRow{"feature_flag_id": 12}).commit(),
			}
		}},
		{"a child before its parent", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().put(experiment, "4", modelRow{"feature_flag_id": 12}).put(flag, "12", modelRow{"team_id": 2}).commit()}
		}},
		{"a child whose parent is nowhere", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().put(experiment, "4", modelRow{"feature_flag_id": 99}).commit()}
		}},
		{"a new token", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().put(team, "1", modelRow{"api_token": "phc_new"}).commit()}
		}},
		{"no token any more", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().put(team, "1", modelRow{"api_token": nil}).commit()}
		}},
		{"tokens swap", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().
				put(team, "1", modelRow{"api_token": "phc_between"}).put(team, "2", modelRow{"api_token": "phc_one"}).put(team, "1", modelRow{"api_token": "phc_two"}).commit()}
		}},
		{"a team goes before its rows", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().remove(team, "1").remove(context_, web).remove(flag, "10").remove(experiment, "3").remove(flag, "11").remove(flagContext, aa).commit()}
		}},
		{"a primary key changes", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().rename(flag, "11", "21", modelRow{"active": true}, "filters").commit()}
		}},
		{"the primary key of a team changes", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().rename(team, "2", "3", nil, "api_token", "name").put(cohort, "5", modelRow{"team_id": 3}).commit()}
		}},
		{"truncate", nil, func(m *model) []*change.Tx {
			tx := m.begin().commit()
			tx.Reconcile = "TRUNCATE of posthog_cohort"
			return []*change.Tx{m.begin().put(cohort, "6", modelRow{"team_id": 1}).commit(), tx, m.begin().put(cohort, "7", modelRow{"team_id": 1}).commit()}
		}},
		{"nothing served changed", nil, func(m *model) []*change.Tx {
			return []*change.Tx{m.begin().put(flag, "11", nil, "filters", "key").commit()}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newModel()
			b := &bundle{m: m}
			b.twoTeams()
			x, cache := modelIndex(t, m)
			for _, r := range test.lacks {
				delete(cache, r)
			}
			txs := test.txs(m)
			var text strings.Builder
			stored := map[row][]byte{}
			for _, at := range reads(x, txs) {
				fmt.Fprintf(&text, "read team %d %s %s\n", at.team, at.row.entity, at.row.key)
				if record, has := cache[at.row]; has {
					stored[at.row] = record
				}
			}
			p, err := newPlan(x, txs, stored)
			if err != nil {
				t.Fatal(err)
			}
			text.WriteString(p.String())
			p.commit()
			text.WriteString("index:" + x.String() + "\n")
			golden(t, filepath.Join("testdata", "plan", strings.ReplaceAll(test.name, " ", "-")+".txt"), text.String())
		})
	}
}

// modelIndex is the index of a cache that holds the model, and its records.
func modelIndex(t *testing.T, m *model) (*index, map[row][]byte) {
	t.Helper()
	x, cache := newIndex(), map[row][]byte{}
	for teamRows := range m.copy("").Teams {
		c, err := newComparison(teamRows)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range c.fields {
			x.put(f.row, c.team, c.parents[i])
			cache[f.row] = f.record
		}
		x.setToken(c.team, c.token)
	}
	return x, cache
}

// String prints a plan for golden files.
func (p *plan) String() string {
	var text strings.Builder
	for _, ops := range p.sorted() {
		for _, name := range ops.removes {
			fmt.Fprintf(&text, "team %d remove %s\n", ops.team, name)
		}
		for _, f := range ops.sets {
			fmt.Fprintf(&text, "team %d set %s %s\n", ops.team, flagcache.Field(f.row.entity, f.row.key), shorten(string(f.record)))
		}
	}
	for _, op := range p.tokens {
		verb := "give"
		if op.remove {
			verb = "take"
		}
		fmt.Fprintf(&text, "token %s %s %d\n", verb, op.token, op.team)
	}
	if p.marker != "" {
		fmt.Fprintf(&text, "marker %s\n", p.marker)
	}
	return text.String()
}

// String prints an index for golden files.
func (x *index) String() string {
	var rows []string
	for entity, keys := range x.teams {
		add := func(key string, team int64) {
			rows = append(rows, fmt.Sprintf(" %s:%s@%d%s", entity, key, team, strings.TrimRight("<"+x.parents[row{entity, key}], "<")))
		}
		for i, n := range keys.numbers.keys {
			if keys.numbers.teams[i] != 0 {
				add(fmt.Sprint(n), keys.numbers.get(n))
			}
		}
		for id, team := range keys.uuids {
			add(fmt.Sprintf("%x", id[12:]), team)
		}
	}
	for team, token := range x.tokens {
		rows = append(rows, fmt.Sprintf(" %s@%d", token, team))
	}
	slices.Sort(rows)
	return strings.Join(rows, "")
}

// shorten prints runs of one letter as a count.
func shorten(text string) string {
	for _, letter := range []string{"a", "x", "z"} {
		text = strings.ReplaceAll(text, strings.Repeat(letter, 4000), letter+"×4000")
	}
	return text
}

// golden compares text with a file, or writes it.
func golden(t *testing.T, path, text string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run go test -update", err)
	}
	if text != string(want) {
		t.Errorf("%s:\n--- got\n%s--- want\n%s", path, text, want)
	}
}

// What a batch costs per row from its changes to the arguments of its script: the key of the team. Handing that to Redis is one more.
func TestPlanAllocations(t *testing.T) {
	const rows = 1000
	w := New(Config{})
	var txs []*change.Tx
	for i := range rows {
		r := benchFlag(i+1, int64(i+1), []byte(`{"groups": []}`))
		w.index.put(row{r.Table.Entity, r.Key}, r.Team, row{})
		txs = append(txs, &change.Tx{EndLSN: change.LSN(8 * (i + 1)), Changes: []change.Change{{Row: r}}})
	}
	n := testing.AllocsPerRun(20, func() {
		p, err := newPlan(w.index, txs, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.operations(nil, p.sorted(), p.tokens)
	})
	if perRow := n / rows; perRow > 1.2 {
		t.Errorf("%.2f allocations per row", perRow)
	}
}
