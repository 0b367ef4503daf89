package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/everflag/everflag/internal/testenv/server"
)

// options are the settings of a run.
type options struct {
	quick    bool
	peer     string
	profiles string
}

// harness is what every section is given: the programs, the rules of pinning, the report, and somebody who cleans up.
type harness struct {
	options
	dir      string // of this run; removed at its end
	report   *report
	pinned   bool // taskset is there and there are two cores
	realtime bool // the load generator may go before everything else
	wrk      string
	cleanups []func() error
}

// The cores: what is measured has one for itself, and what measures the other.
const (
	anyCPU    = -1
	serverCPU = 0
	loadCPU   = 1
)

// programs are built at the start of a run, ours and the floors.
var programs = []string{"cmd/replicator", "cmd/decide", "bench/load", "bench/floors/nethttp", "bench/floors/receive"}

func newHarness(ctx context.Context, o options) (*harness, error) {
	dir, err := server.Dir("bench-")
	if err != nil {
		return nil, err
	}
	h := &harness{options: o, dir: dir}
	if cores() > 1 {
		_, err = exec.LookPath("taskset")
		h.pinned = err == nil
	}
	h.realtime = exec.CommandContext(ctx, realtime[0], append(realtime[1:len(realtime):len(realtime)], "true")...).Run() == nil
	h.wrk, _ = exec.LookPath("wrk") // without it bench/load stands in
	for _, pkg := range programs {
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", h.binary(filepath.Base(pkg)), "./"+pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building %s (bench runs from the root of the module): %w\n%s", pkg, err, text)
		}
	}
	h.report = newReport(describeMachine(ctx, h))
	return h, nil
}

func (h *harness) binary(name string) string { return filepath.Join(h.dir, name) }

// rounds is how often the contestants take turns.
func (h *harness) rounds() int { return pick(h.quick, 3, 7) }

// span is how long one measurement of a steady state takes.
func (h *harness) span() time.Duration { return pick(h.quick, time.Second, 4*time.Second) }

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// cleanup has f called when the section ends, last one first.
func (h *harness) cleanup(f func() error) { h.cleanups = append(h.cleanups, f) }

func (h *harness) closeAll() error {
	var errs []error
	for _, f := range slices.Backward(h.cleanups) {
		errs = append(errs, f())
	}
	h.cleanups = nil
	return errors.Join(errs...)
}

// turns calls every contestant once per round, in an order that rotates, so that none always comes first or always after the same one.
func (h *harness) turns(contestants ...func() error) error {
	for round := range h.rounds() {
		for i := range contestants {
			if err := contestants[(i+round)%len(contestants)](); err != nil {
				return err
			}
		}
	}
	return nil
}

// poll calls condition every half millisecond until it reports true.
func poll(ctx context.Context, timeout time.Duration, what string, condition func() (bool, error)) error {
	return pollEvery(ctx, 500*time.Microsecond, timeout, what, condition)
}

// pollStatus is for conditions that ask a program under measurement, which must not be kept busy with answers.
func pollStatus(ctx context.Context, timeout time.Duration, what string, condition func() (bool, error)) error {
	return pollEvery(ctx, 20*time.Millisecond, timeout, what, condition)
}

func pollEvery(ctx context.Context, every, timeout time.Duration, what string, condition func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%s: not within %v", what, timeout))
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if done, err := condition(); err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
