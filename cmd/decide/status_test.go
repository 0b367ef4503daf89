package main

import (
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/testenv"
)

// TestStatusText pins what status prints, from health to the states in which somebody needs it. EVERFLAG_UPDATE=1 writes it anew.
func TestStatusText(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 2, 15, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *time.Time { return new(now.Add(-d)) }
	following := store.Status{
		Source: "redis", Since: *ago(90 * time.Minute), Position: flagcache.Version(7, 0x1A60630), Epoch: 7, Owner: "db1/OWZ5KQ3N7B2XJ4TDL6CMVRHA2E", Complete: true, Certain: true,
		LastChange: ago(4 * time.Second), Teams: 238_000, Programs: 12, RecordBytes: 190 << 20, ProgramBytes: 3 << 20,
		SnapshotFile: "/data/decide.snapshot", SnapshotAt: ago(10 * time.Second),
	}
	reconciling := following
	reconciling.Complete, reconciling.Certain, reconciling.Reconcile = false, false, "TRUNCATE of posthog_cohort"
	memory := following
	memory.Source, memory.Certain, memory.AgeSeconds = "memory", false, 75
	memory.Error, memory.ErrorSince = "polling the cache: dial tcp 10.0.0.7:6379: connect: connection refused", ago(75*time.Second)
	file := memory
	file.Source, file.Since, file.Owner, file.LastChange, file.FileError = "file", *ago(2 * time.Second), "", nil, "no space left on device"
	none := store.Status{Source: "none", Error: memory.Error, ErrorSince: ago(time.Second)}
	var text strings.Builder
	for _, status := range []store.Status{following, reconciling, memory, file, none} {
		if err := printStatus(&text, status, now); err != nil {
			t.Fatal(err)
		}
		text.WriteString("----\n")
	}
	testenv.Golden(t, "testdata/status.golden", text.String())
}
