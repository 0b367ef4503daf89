package soak

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// report is what is told at the end. The test owns it.
type report struct {
	faults     int
	events     []string
	tally      map[string]*tally
	recoveries []time.Duration
	reconciles map[string]int
	memory     map[string]*memory // by program
	balanced   int64              // requests through the balancer while decide processes were restarted
	hostile    int                // requests
}

type tally struct {
	n       int
	longest time.Duration
}

// memory is what the processes of a program had resident, in bytes.
type memory struct{ first, last, highest int64 }

func newReport() report {
	return report{tally: map[string]*tally{}, reconciles: map[string]int{}, memory: map[string]*memory{}}
}

func (r *report) event(format string, args ...any) {
	r.events = append(r.events, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (r *report) count(name string, took time.Duration) {
	if r.tally[name] == nil {
		r.tally[name] = &tally{}
	}
	r.tally[name].n++
	r.tally[name].longest = max(r.tally[name].longest, took)
}

// weigh notes the memory of all that run, the largest of each program.
func (a *arena) weigh() {
	now := map[string]int64{}
	for _, n := range a.nodes {
		if n.program != nil {
			now["replicator"] = max(now["replicator"], resident(n.program.PID()))
		}
	}
	for _, f := range a.fronts {
		now["decide"] = max(now["decide"], resident(f.program.PID()))
	}
	for program, bytes := range now {
		if bytes == 0 {
			continue // it has just died
		}
		m := a.memory[program]
		if m == nil {
			m = &memory{first: bytes}
			a.memory[program] = m
		}
		m.last, m.highest = bytes, max(m.highest, bytes)
		// A gzip bomb may take its 8 MiB several times, and waits for the collector.
		if bytes > m.first+absurdGrowth {
			a.t.Errorf("difference: a %s has grown from %d MiB to %d MiB", program, m.first>>20, bytes>>20)
		}
	}
}

const absurdGrowth = 512 << 20

// resident is the resident memory of a process in bytes; 0 if it has ended.
func resident(pid int) int64 {
	var size, pages int64
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err == nil {
		_, err = fmt.Sscan(string(text), &size, &pages)
	}
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// latencies of all readers, while all was well and while all servers were down.
func (a *arena) latencies() (well, outage []time.Duration) {
	for _, f := range a.fronts {
		f.mu.Lock()
		well, outage = append(well, f.took[quiet]...), append(outage, f.took[still]...)
		f.mu.Unlock()
	}
	slices.Sort(well)
	slices.Sort(outage)
	return well, outage
}

// p99 of sorted durations.
func p99(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)*99/100]
}

// summary prints what happened.
func (a *arena) summary() {
	for _, n := range a.nodes {
		n.inspect()
	}
	well, outage := a.latencies()
	if len(outage) > 500 && p99(outage) > 10*p99(well)+250*time.Millisecond {
		a.t.Errorf("difference: the answers' p99 is %v with all servers down, %v otherwise", p99(outage), p99(well))
	}
	verdict := "no differences"
	if a.t.Failed() {
		verdict = "DIFFERENCES, see above; the last events:\n" + strings.Join(a.events[max(0, len(a.events)-40):], "\n")
	}
	slices.Sort(a.recoveries)
	median := time.Duration(0)
	if n := len(a.recoveries); n > 0 {
		median = a.recoveries[n/2]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "soak: seed %d, %v: %s\n%d faults\n", a.seed, time.Since(a.began).Round(time.Second), verdict, a.faults)
	reconciles := a.list(&b)
	a.load.Lock()
	defer a.load.Unlock()
	a.watcher.mu.Lock()
	defer a.watcher.mu.Unlock()
	var asked int64
	ready := time.Duration(0)
	for _, f := range a.fronts {
		asked += f.asked.Load()
		ready = max(ready, f.slowestStart)
	}
	fmt.Fprintf(&b, "transactions %d committed, %d aborted, %d cut off; states %d; slowest commit %v\n",
		a.load.committed, a.load.aborted, a.load.errors, a.history.newest()+1, a.load.slowest.Round(time.Millisecond))
	for _, reason := range sortedKeys(a.load.aborts) {
		fmt.Fprintf(&b, "  %4d  %s\n", a.load.aborts[reason], reason)
	}
	fmt.Fprintf(&b, "looks at the cache %d, answers %d; %d reconciles; median recovery %v, longest staleness %v\n",
		a.watcher.looks, asked, reconciles, median.Round(time.Millisecond), a.watcher.longest.Round(time.Millisecond))
	fmt.Fprintf(&b, "answers' p99 %v while all was well (%d answers), %v with Postgres, replicators and Redis down (%d answers); decide ready after %v at most\n",
		p99(well).Round(10*time.Microsecond), len(well), p99(outage).Round(10*time.Microsecond), len(outage), ready.Round(time.Millisecond))
	fmt.Fprintf(&b, "%d requests through the balancer during rolling restarts, %d hostile requests", a.balanced, a.hostile)
	for _, program := range sortedKeys(a.memory) {
		m := a.memory[program]
		fmt.Fprintf(&b, "\nresident memory of %s: %d MiB at first, %d at last, %d at most", program, m.first>>20, m.last>>20, m.highest>>20)
	}
	a.t.Log(b.String())
}

// list writes the faults, the reconciles and the slow recoveries.
func (r *report) list(b *strings.Builder) (reconciles int) {
	for _, name := range sortedKeys(r.tally) {
		if !strings.HasPrefix(name, "recovery: ") {
			fmt.Fprintf(b, "  %4d  %s\n", r.tally[name].n, name)
		}
	}
	b.WriteString("reconciles\n")
	for _, reason := range sortedKeys(r.reconciles) {
		fmt.Fprintf(b, "  %4d  %s\n", r.reconciles[reason], reason)
		reconciles += r.reconciles[reason]
	}
	fmt.Fprintf(b, "recoveries that took longer than %v\n", quick)
	for _, name := range sortedKeys(r.tally) {
		if tally := r.tally[name]; tally.longest > quick {
			fmt.Fprintf(b, "  %4d  %s: up to %v\n", tally.n, strings.TrimPrefix(name, "recovery: "), tally.longest.Round(10*time.Millisecond))
		}
	}
	return reconciles
}
