// Command bench measures both programs against the floors that the machine, Postgres, Redis and net/http set. It guarantees that every ratio it prints
// comes from rounds that were run in turns, on one machine, in one run, and that nothing it started is left behind.
//
// It is run from the root of the module: go run ./bench [--quick] [--section decide,drain] [--out bench/results.md]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/everflag/everflag/internal/testenv/server"
)

// section is one part of the report.
type section struct {
	name, about string
	run         func(context.Context, *harness) error
}

var sections = []section{
	{"decide", "a flag request, 10, 50 and 350 flags, beside a constant answer over net/http", decideSection},
	{"evaluation", "evaluation in the process, beside posthog-go", evaluationSection},
	{"peers", "other flag servers, 50 flags, each on its own format", peersSection},
	{"startup", "start to ready and memory with 24,000 teams of 10 flags and 214,000 without", startupSection},
	{"propagation", "one change at a time: commit to Redis, commit to served", propagationSection},
	{"drain", "a backlog of 20,000 transactions of a row, and of 200 of 1,000 rows, beside pg_recvlogical", drainSection},
	{"bigtx", "one transaction of 1,000,000 rows, beside one reconcile of the table; memory", bigTxSection},
	{"reconcile", "200,000 flags into an empty Redis, beside COPY and redis-cli --pipe; an unchanged cache", reconcileSection},
	{"idle", "CPU and memory of both programs when nothing happens, and what unrelated log costs", idleSection},
	{"churn", "p99 while the definitions of every team change ten times a second", churnSection},
	{"cores", "the request handler on two cores", coresSection},
}

func main() {
	os.Exit(run())
}

func run() int {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	chosen := flag.String("section", "", "sections to run, separated by commas; default all: "+strings.Join(names, ", "))
	quick := flag.Bool("quick", false, "short rounds and smaller data: for ratios, not for figures")
	out := flag.String("out", "bench/results.md", "where the tables go; - for standard output only")
	peer := flag.String("peer", "", "URL of another server for the section decide, that answers the same POST /flags/?v=2, e.g. http://127.0.0.1:3001")
	profiles := flag.String("profiles", "", "directory for CPU and heap profiles of what is measured")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, *chosen, *out, options{quick: *quick, peer: *peer, profiles: *profiles}); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// measure runs the sections and writes the report. A section that does not work is reported as such, and the others still run.
func measure(ctx context.Context, chosen, out string, o options) (err error) {
	defer func() { err = errors.Join(err, server.Cleanup()) }()
	ctx, cancel := context.WithTimeoutCause(ctx, pick(o.quick, 10*time.Minute, 30*time.Minute), errors.New("the time for all sections is over; --section runs some"))
	defer cancel()
	h, err := newHarness(ctx, o)
	if err != nil {
		return err
	}
	var problems []error
	for _, s := range sections {
		if chosen != "" && !slices.Contains(strings.Split(chosen, ","), s.name) || ctx.Err() != nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "== %s: %s\n", s.name, s.about)
		start := time.Now()
		h.report.begin(s)
		err := s.run(ctx, h)
		err = errors.Join(err, h.closeAll())
		h.report.end(time.Since(start), err)
		if err != nil {
			problems = append(problems, fmt.Errorf("section %s: %w", s.name, err))
		}
	}
	text := h.report.markdown()
	fmt.Print(text)
	if out != "-" && len(h.report.parts) > 0 {
		problems = append(problems, os.WriteFile(out, []byte(text), 0o644))
	}
	if ctx.Err() != nil {
		problems = append(problems, context.Cause(ctx))
	}
	return errors.Join(problems...)
}
