package store

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/testenv"
)

// S44: many requests for a team without a program compile it once.
func TestCompilationIsShared(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.w.fill("one", definition{id: 1, mark: "a", flags: 200})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a"})
	programs := make(chan any, 16)
	var requests sync.WaitGroup
	for range cap(programs) {
		requests.Go(func() { program, _ := b.Program("phc_1"); programs <- program })
	}
	requests.Wait()
	first := <-programs
	for range cap(programs) - 1 {
		if another := <-programs; another != first {
			t.Error("two programs for one version")
		}
	}
	if n := testutil.ToFloat64(b.metrics.compiles); n != 1 {
		t.Errorf("compiled %v times", n)
	}
}

// A team in use is compiled before its change is served, one that nobody asked for is not.
func TestChangedTeamInUseIsCompiledAhead(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.w.fill("one", definition{id: 1, mark: "a"}, definition{id: 2, mark: "a"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_2": "a"})
	before, _ := b.Program("phc_1")
	b.w.put(definition{id: 1, mark: "b"}, definition{id: 2, mark: "b"})
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "b", "phc_2": "b"})
	if n := testutil.ToFloat64(b.metrics.compiles); n != 2 {
		t.Errorf("compiled %v times, want once for the request and once for the change", n)
	}
	after, _ := b.Program("phc_1")
	if after == before || after.Version() == before.Version() {
		t.Error("the program is that of before the change")
	}
	if n := testutil.ToFloat64(b.metrics.compiles); n != 2 {
		t.Error("the request compiled again")
	}
	if n, bytes := b.programs.count(); n != 1 || bytes == 0 {
		t.Errorf("%d programs of %d bytes, want 1", n, bytes)
	}
}

// Memory is bounded: programs that were not used for longest go, records stay, and everything is still answered.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	const teams = 40
	b := setup(t, func(cfg *Config) { cfg.MaxMemory = 400_000 })
	var definitions []definition
	for id := range int64(teams) {
		definitions = append(definitions, definition{id: id + 1, mark: "a", flags: 20})
	}
	b.w.fill("one", definitions...)
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a"})
	b.stop() // from here on the test turns the clock of the programs
	for round := range 3 {
		for id := 1; id <= teams; id++ {
			b.programs.tick.Add(1)
			if _, lookup := b.Program(fmt.Sprintf("phc_%d", id)); lookup != decide.Found {
				t.Fatalf("round %d, team %d: %v", round, id, lookup)
			}
			if _, bytes := b.programs.count(); bytes > b.programs.limit(b.view.Load()) {
				t.Fatalf("round %d, team %d: programs take %d bytes", round, id, bytes)
			}
		}
	}
	n, _ := b.programs.count()
	evicted := testutil.ToFloat64(b.metrics.evictions)
	if n < 2 || n == teams || evicted == 0 {
		t.Errorf("%d programs, %v evicted", n, evicted)
	}
	// The one used last is there, the one used first is not.
	v := b.view.Load()
	first, _ := v.teams.get(1)
	last, _ := v.teams.get(teams)
	if first.slot.program.Load() != nil || last.slot.program.Load() == nil {
		t.Error("not the programs used least recently were dropped")
	}
}

// Which programs are in use is also known while Redis is away, or where there is none: a team that is asked for all the time keeps its program, while
// others come and go.
func TestMemoryLimitWithoutRedis(t *testing.T) {
	t.Parallel()
	const teams, inUse = 20, 1
	file := filepath.Join(t.TempDir(), "snapshot")
	v := writeSome(t, file, flagcache.DefaultPrefix)
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{SnapshotFile: file, MaxMemory: v.records + 40_000}) // the programs take five times that
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		for id := range int64(teams) {
			for _, asked := range []int64{inUse, id + 1} {
				if _, lookup := s.Program(tokenOf(asked)); lookup != decide.Found {
					t.Fatalf("team %d: %v", asked, lookup)
				}
				time.Sleep(2 * time.Second)
			}
		}
		if compiled, evicted := testutil.ToFloat64(s.metrics.compiles), testutil.ToFloat64(s.metrics.evictions); compiled != teams || evicted == 0 {
			t.Errorf("%v compilations for %d teams, %v programs dropped", compiled, teams, evicted)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The programs of teams that go are no longer counted, nor are their records.
func TestAccountFollowsTeams(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.w.fill("one", definition{id: 1, mark: "a", flags: 2}, definition{id: 2, mark: "a", flags: 2}, definition{id: 3, mark: "a"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a"})
	before := b.view.Load()
	for _, token := range []string{"phc_1", "phc_2"} {
		b.Program(token)
	}
	if n, bytes := b.programs.count(); n != 2 || bytes == 0 {
		t.Errorf("%d programs of %d bytes, want 2", n, bytes)
	}
	b.w.remove(1, 2, 3)
	testenv.Eventually(t, 3*time.Second, func() error {
		if n, bytes := b.programs.count(); n != 0 || bytes != 0 || b.view.Load().records != 0 {
			return fmt.Errorf("%d programs of %d bytes after all teams went, records of %d bytes", n, bytes, b.view.Load().records)
		}
		return nil
	})
	// A request that came before the change, and compiles only now, is not counted either.
	old, _ := before.teams.get(3)
	if _, err := b.programs.of(before, old); err != nil {
		t.Error(err)
	}
	if n, _ := b.programs.count(); n != 0 {
		t.Errorf("%d programs, want none: the team is gone", n)
	}
}

// Flags shared by a project: a change of one team renews the programs of its siblings, and of nobody else.
func TestSharedByProject(t *testing.T) {
	t.Parallel()
	b := setup(t, func(cfg *Config) { cfg.SharedByProject = true })
	b.w.fill("one", definition{id: 1, project: 7, mark: "a", flags: 1}, definition{id: 2, project: 7, mark: "a", flags: 1},
		definition{id: 3, project: 8, mark: "a", flags: 1}, definition{id: 4, mark: "a"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_4": "a"})
	siblings := func(id int64) (ids []int64) {
		v := b.view.Load()
		one, _ := v.teams.get(id)
		for _, s := range v.siblings(one) {
			ids = append(ids, s.id)
		}
		return ids
	}
	if got := fmt.Sprint(siblings(1), siblings(2), siblings(3), siblings(4)); got != "[2] [1] [] []" {
		t.Errorf("siblings: %s", got)
	}
	before := make(map[string]any)
	for _, token := range []string{"phc_1", "phc_2", "phc_3", "phc_4"} {
		before[token], _ = b.Program(token)
	}
	b.w.put(definition{id: 2, project: 7, mark: "b", flags: 2})
	b.wants(t, 3*time.Second, map[string]string{"phc_3": "a"})
	testenv.Eventually(t, 3*time.Second, func() error {
		if two, _ := b.view.Load().teams.get(2); two.flags != 2 {
			return fmt.Errorf("team 2 has %d flags", two.flags)
		}
		return nil
	})
	records, _ := b.Records("phc_1")
	program, _ := b.Program("phc_1")
	if want := fmt.Sprintf("%016d:%016X", b.w.epoch, b.w.lsn); len(records.Flags) != 3 || records.Version != want || program.Version() != want {
		t.Errorf("%d flags, versions %s and %s; want 3 flags, version %s", len(records.Flags), records.Version, program.Version(), want)
	}
	for token, renewed := range map[string]bool{"phc_1": true, "phc_2": true, "phc_3": false, "phc_4": false} {
		if after, _ := b.Program(token); (any(after) != before[token]) != renewed {
			t.Errorf("%s: renewed %t, want %t", token, !renewed, renewed)
		}
	}
	// Team 2 moves to the other project, then goes.
	b.w.put(definition{id: 2, token: "phc_2b", project: 8, mark: "a"})
	b.wants(t, 3*time.Second, map[string]string{"phc_2b": "a"})
	if got := fmt.Sprint(siblings(1), siblings(3)); got != "[] [2]" {
		t.Errorf("siblings: %s", got)
	}
	b.w.remove(2)
	b.wants(t, 3*time.Second, map[string]string{"phc_2b": "absent", "phc_3": "a"})
	if got := fmt.Sprint(siblings(1), siblings(3)); got != "[] []" {
		t.Errorf("siblings: %s", got)
	}
}

func TestTeams(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.w.fill("one", definition{id: 1, mark: "Alpha", flags: 1, project: 7}, definition{id: 2, mark: "Beta", flags: 3}, definition{id: 12, mark: "alphabet"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "Alpha"})
	for query, want := range map[string]string{"": "[2 1 12]", "alpha": "[1 12]", "12": "[12]", "7": "[1]", "PHC_2": "[2]", "nobody": "[]"} {
		ids := []int64{}
		for _, s := range b.Teams(query, 10) {
			ids = append(ids, s.ID)
		}
		if got := fmt.Sprint(ids); got != want {
			t.Errorf("Teams(%q) = %s, want %s", query, got, want)
		}
	}
	if got := b.Teams("", 1); len(got) != 1 || got[0] != (Summary{2, "phc_2", "Team 2 Beta", 0, fmt.Sprintf("%016d:%016X", b.w.epoch, b.w.lsn), 3}) {
		t.Errorf("Teams = %+v", got)
	}
}
