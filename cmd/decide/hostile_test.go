package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
	"github.com/everflag/everflag/internal/testenv/abuse"
)

// patterns that a backtracking engine needs exponential time for; the second needs one, as no other can look ahead.
const (
	flagRegex      = `{"filters":{"groups":[{"properties":[{"key":"plan","type":"person","operator":"regex","value":"^(a+)+$"}],"rollout_percentage":100}]}}`
	flagBacktracks = `{"filters":{"groups":[{"properties":[{"key":"plan","type":"person","operator":"regex","value":"^(?=(a+)+$)(a|a)*b"}],"rollout_percentage":100}]}}`
)

// TestHostileRequests sends 1,000 requests of all bad kinds that are known, or with EVERFLAG_LARGE=1 as many of each, mixed, from several clients, to the real
// program: each gets the status that is documented for it, good requests in between are answered, memory stays within bounds, nothing panics, and no request is
// a line in the log. S29, S34, S35, S39, S46, S47, S49.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	const clients = 4
	requests := 1000
	d := startTarget(t)
	version := d.cache.define(t, map[string]string{"regex": flagRegex, "backtracks": flagBacktracks})
	testenv.Eventually(t, settle, func() error {
		_, header, err := ask(d.addr)
		if err == nil && header.Get("X-Everflag-Version") != version {
			err = fmt.Errorf("decide serves version %q, want %q", header.Get("X-Everflag-Version"), version)
		}
		return err
	})
	kinds := abuse.Requests(t, token)
	if os.Getenv("EVERFLAG_LARGE") != "" {
		requests *= len(kinds)
	}
	var names []string
	for name := range kinds {
		names = append(names, name)
	}
	before, highest, lines := testenv.Resident(t, d.PID()), int64(0), len(d.Logs())
	var mu sync.Mutex // guards the next two
	sent, wrong := 0, map[string]bool{}
	var working sync.WaitGroup
	for client := range clients {
		working.Go(func() {
			random := rand.New(rand.NewPCG(uint64(client), 1))
			for n := client; n < requests; n += clients {
				name := names[n%len(names)]
				if n >= len(names) { // all once, then any
					name = names[random.IntN(len(names))]
				}
				status, err := kinds[name].Send(d.addr)
				mu.Lock()
				sent++
				if status != kinds[name].Status && !wrong[name] {
					wrong[name] = true
					t.Errorf("%s: status %d (%v), want %d", name, status, err, kinds[name].Status)
				}
				highest = max(highest, testenv.Resident(t, d.PID()))
				mu.Unlock()
				if good, _, err := ask(d.addr); err != nil || good != http.StatusOK {
					t.Errorf("a good request after %s: status %d, %v", name, good, err)
				}
			}
		})
	}
	working.Wait()
	if limit := int64(48 << 20); before > limit { // 27 MiB without the ballast
		t.Errorf("resident memory was %d MiB before, more than %d: the ballast has been touched", before>>20, limit>>20)
	}
	after := testenv.Resident(t, d.PID())
	t.Logf("%d requests of %d kinds; resident %d MiB before, %d MiB at most, %d MiB after", sent, len(kinds), before>>20, highest>>20, after>>20)
	// A bomb may take its 8 MiB several times while its buffer grows, and waits for the collector; four clients send them at once.
	if limit := before + 192<<20; highest > limit {
		t.Errorf("resident memory reached %d MiB, more than %d", highest>>20, limit>>20)
	}
	checkNoPanic(t, d)
	if said := d.Logs()[lines:]; len(said) > 5 { // none is due to a request
		t.Errorf("%d lines are logged meanwhile: %q", len(said), said)
	}
}

// checkNoPanic wants the program to run, to have met no panic and to have logged nothing above info.
func checkNoPanic(t *testing.T, d *target) {
	t.Helper()
	select {
	case <-d.Ended():
		t.Fatalf("decide ended: %q", d.Logs())
	default:
	}
	if !strings.Contains(metricsOf(d), "\neverflag_decide_panics_total 0\n") {
		t.Error("the count of panics is not 0")
	}
	for _, line := range d.Logs() {
		if !strings.Contains(line, `"level":"info"`) {
			t.Errorf("logged: %s", line)
		}
	}
	testenv.Eventually(t, settle, func() error {
		if !strings.Contains(metricsOf(d), "\neverflag_decide_requests_in_flight 0\n") {
			return fmt.Errorf("requests are still in flight")
		}
		return nil
	})
}

func metricsOf(d *target) string {
	response, err := http.Get("http://" + d.admin + "/metrics") //nolint:noctx // because it is a server of this test
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body) // half of it does not have what is looked for
	return string(text)
}
