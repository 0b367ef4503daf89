package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// target is a decide that serves the flags of every scene.
type target struct {
	*testenv.Program
	addr, admin string
	cache       *cache
}

func startTarget(t *testing.T, more ...string) *target {
	t.Helper()
	space := testenv.Redis(t)
	tg := &target{cache: newCache(t, space), addr: "127.0.0.1:" + testenv.FreePort(t), admin: "127.0.0.1:" + testenv.FreePort(t)}
	tg.cache.define(t, flags)
	tg.Program = testenv.Run(t, testenv.Build(t, "cmd/decide"), append([]string{
		"DECIDE_REDIS_URL=" + space.URL, "DECIDE_KEY_PREFIX=" + space.Prefix, "DECIDE_ADDR=" + tg.addr, "DECIDE_ADMIN_ADDR=" + tg.admin, "DECIDE_DRAIN_DELAY=0s",
	}, more...))
	testenv.Eventually(t, settle, func() error { return ready200("http://" + tg.admin + "/readyz") })
	testenv.Eventually(t, settle, func() error { // tokens are known to be unknown
		answer, err := http.Get("http://" + tg.addr + "/array/phc_unknown/config") //nolint:noctx // because the condition is polled with a deadline
		if err == nil {
			_ = answer.Body.Close() // only the status is of interest
			if answer.StatusCode != http.StatusUnauthorized {
				err = fmt.Errorf("an unknown token is answered %s", answer.Status)
			}
		}
		return err
	})
	return tg
}

// TestMemoryIsFlat sends 100,000 requests, or as many as EVERFLAG_REQUESTS says, and wants the memory of the process after them to be what it was after
// the first tenth (S49). Every answer is checked.
func TestMemoryIsFlat(t *testing.T) {
	t.Parallel()
	requests := 100_000
	if text := os.Getenv("EVERFLAG_REQUESTS"); text != "" {
		var err error
		if requests, err = strconv.Atoi(text); err != nil {
			t.Fatalf("EVERFLAG_REQUESTS: %v", err)
		}
	}
	d := startTarget(t)
	start := time.Now()
	load := startLoad(t, "requests", d.addr, requests)
	const parts = 20
	series := make([]int64, 0, parts) // after each part of the requests
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-load.Ended():
			ended = true
		case <-tick.C:
		}
		for answered := answered(load); len(series) < parts && answered*parts >= requests*(len(series)+1); {
			series = append(series, testenv.Resident(t, d.PID()))
		}
	}
	took := time.Since(start)
	if code := load.Wait(t); code != 0 || len(series) < parts {
		t.Fatalf("the load ended with %d after %d of %d parts", code, len(series), parts)
	}
	megabytes := make([]string, parts)
	for i, bytes := range series {
		megabytes[i] = fmt.Sprint(bytes >> 20)
	}
	t.Logf("%d requests, %.0f/s; resident MiB after each twentieth: %s", requests, float64(requests)/took.Seconds(), strings.Join(megabytes, " "))
	// The heap breathes between two collections: what counts is the highest of the early parts against the highest of the late ones.
	early, late := slices.Max(series[:parts/4]), slices.Max(series[parts*3/4:])
	if late > early+16<<20 {
		t.Errorf("resident memory grew from %d to %d MiB", early>>20, late>>20)
	}
}

// answered is the newest number that the load has said.
func answered(load *testenv.Program) int {
	lines := load.Logs()
	for _, line := range slices.Backward(lines) {
		if text, found := strings.CutPrefix(line, "answered "); found {
			n, _ := strconv.Atoi(text) // it was printed as a number
			return n
		}
	}
	return 0
}

// TestTenThousandConnections holds 10,000 connections, half of them idle, half of them sending so slowly that they never end, while others ask on: all of
// them are answered, the slow ones are cut off, the idle ones are kept, and memory stays within limits.
func TestTenThousandConnections(t *testing.T) { // S40, S49, S55
	if testing.Short() {
		t.Skip("it takes the server's own time-outs, 10 s, and runs without -short")
	}
	t.Parallel()
	const connections, perConnection = 10_000, 40 << 10
	d := startTarget(t)
	before := testenv.Resident(t, d.PID())
	load := startLoad(t, "connections", d.addr, connections)
	var took []time.Duration
	highest, cutOff, open := before, false, time.Time{}
	for start := time.Now(); !cutOff && time.Since(start) < 90*time.Second; {
		began := time.Now()
		if status, _, err := ask(d.addr); err != nil || status != http.StatusOK {
			t.Fatalf("beside slow connections: status %d, %v", status, err)
		}
		took = append(took, time.Since(began))
		highest = max(highest, testenv.Resident(t, d.PID()))
		for _, line := range load.Logs() {
			cutOff = cutOff || line == "idle ones stand"
			if open.IsZero() && strings.HasPrefix(line, "open") {
				open = time.Now()
			}
		}
		select {
		case <-load.Ended():
			t.Fatalf("the load ended: %q", load.Logs())
		default:
		}
	}
	if !cutOff {
		t.Fatalf("the slow connections are still there: %q", load.Logs())
	}
	slices.Sort(took)
	t.Logf("%d requests beside them, median %v, p99 %v, slowest %v; slow ones cut off %v after all stood; resident %d MiB before, %d MiB at most",
		len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1], time.Since(open).Round(time.Second), before>>20, highest>>20)
	if highest > before+connections*perConnection {
		t.Errorf("resident memory went from %d to %d MiB: more than %d KiB per connection", before>>20, highest>>20, perConnection>>10)
	}
	if limit := 3 * time.Second; took[len(took)*99/100] > limit {
		t.Errorf("p99 of the others is %v, more than %v", took[len(took)*99/100], limit)
	}
	load.Kill(t)
	idle, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = idle.Close() // it was only to see that one can still connect
}
