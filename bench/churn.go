package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/everflag/everflag/internal/change"
)

// churnSection measures the latency of requests while a flag of every team changes ten times a second.
func churnSection(ctx context.Context, h *harness) error {
	const teams, flags, perSecond = 100, 50, 10
	all := make([]change.TeamRows, 0, teams)
	for id := range teams {
		token := fmt.Sprintf("phc_%043d", id)
		if id == 0 {
			token = referenceToken
		}
		all = append(all, teamRows(int64(id+1), token, flags, false))
	}
	c, err := h.fill(ctx, only(all...))
	if err != nil {
		return err
	}
	d, addr, err := h.decide(ctx, c.redis.URL(0))
	if err != nil {
		return err
	}
	r, err := h.newRequest("churn", referenceToken)
	if err != nil {
		return err
	}
	warm, err := h.saturate(ctx, addr, r, h.span())
	if err != nil {
		return err
	}
	rate := 0.4 * warm.rate() // what is left of the core is for the changes
	var quiet, changing, cpuQuiet, cpuChanging, p50Quiet, p50Changing series
	hold := func(p50, p99, cpu *series) error {
		before := d.used()
		l, err := h.hold(ctx, addr, r, rate, h.span()+time.Second)
		*p50, *p99 = append(*p50, l.P50), append(*p99, l.P99)
		*cpu = append(*cpu, percent(d.used().since(before), h.span()+time.Second))
		return err
	}
	err = h.turns(func() error { return hold(&p50Quiet, &quiet, &cpuQuiet) }, func() error {
		stop := c.churn(ctx, teams, perSecond)
		err := hold(&p50Changing, &changing, &cpuChanging)
		if changed := stop(); changed != nil {
			return changed
		}
		return err
	})
	h.report.table(fmt.Sprintf("%d teams of %d flags, %s req/s", teams, flags, number(rate)), "p50 ms", "p99 ms", "CPU % of a core", "ratio of p99")
	h.report.row("quiet", p50Quiet, quiet, cpuQuiet, "")
	h.report.row(fmt.Sprintf("a flag of every team changes %d times a second", perSecond), p50Changing, changing, cpuChanging, changing.ratio(quiet))
	h.report.note("The load is 40 %% of the saturated rate; the writer and Redis share the other core with the load generator.")
	h.report.atMost("p99 while every team changes 10× a second vs quiet", changing.ratio(quiet), 1.5, "×")
	return err
}

// churn changes a flag of every team a number of times per second until the function it returns is called.
func (c *cache) churn(ctx context.Context, teams, perSecond int) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var writer sync.WaitGroup
	var failed error
	writer.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for version := 2; failed == nil; version++ {
			changes := make([]change.Change, 0, teams)
			for id := range teams {
				i := version % 10
				changes = append(changes, change.Change{Row: flagRow((id+1)*1000+i, int64(id+1), referenceKey(i), referenceFilters(i, false), version)})
			}
			failed = c.apply(context.WithoutCancel(ctx), changes)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return func() error { cancel(); writer.Wait(); return failed }
}
