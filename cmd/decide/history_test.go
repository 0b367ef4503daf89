package main

import (
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/decide/store"
)

// TestHistory: an owner that takes over while the state has a reason of its own is told of afterwards.
func TestHistory(t *testing.T) {
	t.Parallel()
	h, now := &history{}, time.Date(2026, 11, 2, 15, 0, 0, 0, time.UTC)
	for i, status := range []store.Status{
		{Source: "none"},
		{Source: "redis", Owner: "db1/A"},
		{Source: "redis", Owner: "db1/A"},
		{Source: "memory", Owner: "db1/A", Error: "refused"},
		{Source: "redis", Owner: "db2/B", AgeSeconds: 12},
		{Source: "redis", Owner: "db2/B", AgeSeconds: 13},
		{Source: "redis", Owner: "db2/B"},
		{Source: "redis", Owner: "db1/C"},
	} {
		h.note(status, now.Add(time.Duration(i)*time.Second))
	}
	var got []string
	for _, turn := range h.last() {
		got = append(got, turn.At.Format("05")+" "+turn.State+": "+turn.Why)
	}
	want := `07 following Redis: the cache is written by db1/C
06 following Redis: the cache is written by db2/B
04 following Redis, not fresh: no replicator confirms that the cache follows Postgres
03 serving from memory: refused
01 following Redis: the cache is written by db1/A
00 no definitions yet: `
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("the turns are\n%s\nwant\n%s", text, want)
	}
}
