package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/everflag/everflag/internal/testenv/server"
)

// contestant is a server under load.
type contestant struct {
	name                   string
	addr                   string
	process                *process // nil: somebody else's, whose consumption is not seen
	rate, cpu, p99, waited series
}

// round measures a contestant once.
func (c *contestant) round(ctx context.Context, h *harness, r request) error {
	var before, after usage
	if c.process != nil {
		before = c.process.used()
	}
	l, err := h.saturate(ctx, c.addr, r, h.span())
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	c.rate, c.p99 = append(c.rate, l.rate()), append(c.p99, l.P99)
	if c.process != nil {
		after = c.process.used().since(before)
		c.cpu = append(c.cpu, float64(after.ran.Microseconds())/l.Requests)
		c.waited = append(c.waited, 100*after.waited.Seconds()/(after.ran+after.waited).Seconds())
	}
	return nil
}

// decideSection measures requests to the whole program, every feature on, beside the constant server.
func decideSection(ctx context.Context, h *harness) error {
	h.report.table("flags", "server", "req/s", "CPU µs/request", "p99 ms", "answer bytes", "ratio of req/s", "ratio of CPU", "core taken by others %")
	for _, flags := range []int{10, 50, 350} {
		if err := h.decideAt(ctx, flags, false); err != nil {
			return err
		}
	}
	if err := h.decideAt(ctx, 50, true); err != nil {
		return err
	}
	h.report.note("In the reference request the properties of a third of the flags match, and only those need the hash of their rollout; \"all hashed\" is the worst case.")
	h.report.note("The ratio of CPU is what a request costs the floor over what it costs the server: it is the ratio of req/s on a machine without other work.")
	return nil
}

func (h *harness) decideAt(ctx context.Context, flags int, every bool) error {
	c, err := h.fill(ctx, only(teamRows(1, referenceToken, flags, every)))
	if err != nil {
		return err
	}
	r, err := h.newRequest("reference", referenceToken)
	if err != nil {
		return err
	}
	ours := contestant{name: "decide"}
	if ours.process, ours.addr, err = h.decide(ctx, c.redis.URL(0)); err != nil {
		return err
	}
	body, headers, err := sample(ctx, ours.addr, r)
	if err != nil {
		return err
	}
	port, err := server.FreePort()
	if err != nil {
		return err
	}
	floor := contestant{name: "net/http, constant", addr: fmt.Sprintf("127.0.0.1:%d", port)}
	if floor.process, err = h.floor(ctx, body, headers, floor.addr); err != nil {
		return err
	}
	field := []*contestant{&floor, &ours}
	if h.peer != "" {
		at, err := url.Parse(h.peer)
		if err != nil {
			return err
		}
		field = append(field, &contestant{name: "peer", addr: at.Host})
	}
	var turns []func() error
	for _, one := range field {
		turns = append(turns, func() error { return one.round(ctx, h, r) })
	}
	if err := h.turns(turns...); err != nil {
		return err
	}
	for _, one := range field {
		h.report.row(fmt.Sprint(flags, pick(every, ", all hashed", "")), one.name, one.rate, one.cpu, one.p99, len(body), one.rate.ratio(floor.rate), floor.cpu.ratio(one.cpu), one.waited)
	}
	byCPU := floor.cpu.ratio(ours.cpu)
	switch {
	case every:
	case flags == 50:
		h.report.atLeast("50-flag request vs net/http constant (req/s)", ours.rate.ratio(floor.rate), 0.8, "")
		h.report.atLeast("50-flag request vs net/http constant (CPU)", byCPU, 0.8, "")
		if err := h.steady(ctx, &ours, &floor, r); err != nil {
			return err
		}
	case flags == 350:
		h.report.atLeast("350-flag request vs net/http constant (req/s)", ours.rate.ratio(floor.rate), 0.6, "")
		h.report.atLeast("350-flag request vs net/http constant (CPU)", byCPU, 0.6, "")
	}
	err = h.profile(ours.process, fmt.Sprintf("decide-%d-%t", flags, every), func() error {
		_, err := h.saturate(ctx, ours.addr, r, profileSpan+time.Second)
		return err
	})
	return errors.Join(err, h.closeAll())
}

// steady measures the latency under 70 % of the rate that the server reached, and of the floor at that rate: what it shows is the machine's share.
func (h *harness) steady(ctx context.Context, ours, floor *contestant, r request) error {
	rate := 0.7 * ours.rate.median()
	at := func(c *contestant, p50, p99 *series) func() error {
		return func() error {
			l, err := h.hold(ctx, c.addr, r, rate, h.span()+time.Second)
			*p50, *p99 = append(*p50, l.P50), append(*p99, l.P99)
			return err
		}
	}
	var p50, p99, floor50, floor99 series
	if err := h.turns(at(floor, &floor50, &floor99), at(ours, &p50, &p99)); err != nil {
		return err
	}
	h.report.note("50 flags at 70 %% of the saturated rate (%s req/s): p50 %v ms, p99 %v ms, measured from when each request was due; the floor at that rate: %v and %v ms.",
		number(rate), p50, p99, floor50, floor99)
	h.report.atMost("p99 at 70 % of the saturated rate, 50 flags", p99, 2, " ms")
	return nil
}
