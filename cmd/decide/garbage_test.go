package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

func TestLeaveRoomForGarbage(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	defer func() { ballast = nil }()
	for _, c := range []struct {
		gogc  string
		limit int64
		room  bool
	}{{"", 1 << 40, true}, {"", 100 << 20, false}, {"100", 1 << 40, false}} {
		ballast = nil
		t.Setenv("GOGC", c.gogc)
		debug.SetMemoryLimit(c.limit)
		runtime.GC()
		leaveRoomForGarbage()
		runtime.GC()
		read := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/goal:bytes"}}
		metrics.Read(read)
		alive, goal := read[0].Value.Uint64(), read[1].Value.Uint64()
		if got := goal >= alive+garbageRoom && alive >= garbageRoom; got != c.room {
			t.Errorf("GOGC=%q, a limit of %d MB: %d MB alive, next collection at %d MB", c.gogc, c.limit>>20, alive>>20, goal>>20)
		}
	}
}
