package main

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

// TestRebuildInPlace rebuilds a cache that is as it should be, while readers poll (F70, F71): nothing is written, no reader ever sees a team missing, partial
// or different, and no entry tells readers to load anything. Of a cache with one damaged team, only that team is written.
func TestRebuildInPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	testenv.LoadSeed(t, w.pg, testenv.Schema2026)
	const first, teams, rebuilds = 1000, 10, 5
	for i := range teams {
		testenv.AddTeam(t, w.pg, first+i, nil)
		for k := range 5 {
			testenv.AddFlag(t, w.pg, first+i, fmt.Sprint("flag-", k), `{"groups":[{"rollout_percentage":50}]}`, nil)
		}
	}
	r := w.run(t)
	w.waitEqual(t)
	var readers []func() int
	for i := range teams {
		want, err := w.team(t.Context(), first+i)
		if err != nil || len(want) != 2+5 {
			t.Fatalf("team %d is %v (%v)", first+i, want, err)
		}
		if i%5 != 0 {
			continue
		}
		readers = append(readers, w.watchTeam(t, first+i, func(got map[string]string) error {
			if !maps.Equal(got, want) {
				return fmt.Errorf("seen %v, want %v", got, want)
			}
			return nil
		}))
	}
	tag := "{" + w.redis.Prefix + "}:"
	versions := w.cache.HGetAll(t.Context(), tag+"teams").Val()
	for range rebuilds {
		report, err := r.rebuild(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if report.TeamsWritten != 0 || report.TeamsGone != 0 || report.Teams < teams {
			t.Errorf("an unchanged cache was written: %+v", report)
		}
	}
	if now := w.cache.HGetAll(t.Context(), tag+"teams").Val(); len(versions) < teams || !maps.Equal(now, versions) {
		t.Errorf("versions were %v and are %v", versions, now)
	}
	looks := 0
	for _, stop := range readers {
		looks += stop()
	}
	if looks < 10*len(readers) {
		t.Errorf("%d looks of %d readers tell little", looks, len(readers))
	}
	t.Logf("%d looks during %d rebuilds", looks, rebuilds)

	key := fmt.Sprint(tag, "team:", first)
	if err := errors.Join(w.cache.HDel(t.Context(), key, "team").Err(), w.equal(t.Context())); err == nil {
		t.Error("the damage is not seen")
	}
	report, err := r.rebuild(t.Context())
	if err != nil || report.TeamsWritten != 1 {
		t.Errorf("rebuild: %+v (%v), want one team written", report, err)
	}
	w.waitEqual(t)
}
