package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"
)

// propagationSection commits one change at a time and waits for it to arrive, first in Redis, then in an answer of decide.
func propagationSection(ctx context.Context, h *harness) error {
	c, err := h.openChain(ctx, 200, 10)
	if err != nil {
		return err
	}
	n := pick(h.quick, 300, 2000)
	toRedis, err := c.untilRedis(ctx, n)
	if err != nil {
		return err
	}
	served, err := c.untilServed(ctx, n)
	if err != nil {
		return err
	}
	h.report.table("from the sending of COMMIT until", "p50 ms", "p90 ms", "p99 ms", "slowest ms", "changes")
	for _, line := range []struct {
		name string
		took series
	}{{"the value is in Redis", toRedis}, {"decide answers with it", served}} {
		h.report.row(line.name, line.took.median(), line.took.quantile(0.9), line.took.quantile(0.99), line.took.quantile(1), len(line.took))
	}
	h.report.note("Redis is watched by a blocking read of the changes stream, decide by one request after the other, so the latter includes most of a request.")
	h.report.atMost("commit to Redis, p50", series{toRedis.median()}, 1, " ms")
	h.report.atMost("commit to Redis, p99", series{toRedis.quantile(0.99)}, 5, " ms")
	h.report.atMost("commit to served, p50", series{served.median()}, 1.5, " ms")
	h.report.atMost("commit to served, p99", series{served.quantile(0.99)}, 8, " ms")
	return nil
}

// commit changes a flag and returns the moment at which COMMIT was sent.
func (c *chain) commit(ctx context.Context, flag int) (time.Time, error) {
	if _, err := c.db.Exec(ctx, "BEGIN"); err != nil {
		return time.Time{}, err
	}
	if _, err := c.touch(ctx, flag); err != nil {
		return time.Time{}, err
	}
	sent := time.Now()
	_, err := c.db.Exec(ctx, "COMMIT")
	return sent, err
}

func (c *chain) untilRedis(ctx context.Context, n int) (series, error) {
	last, err := c.cache.XRevRangeN(ctx, c.keys.Changes, "+", "-", 1).Result()
	if err != nil {
		return nil, err
	}
	after := "0"
	if len(last) > 0 {
		after = last[0].ID
	}
	type seen struct {
		at  time.Time
		err error
	}
	arrivals := make(chan seen, 1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for ctx.Err() == nil {
			streams, err := c.cache.XRead(ctx, &redis.XReadArgs{Streams: []string{c.keys.Changes, after}, Block: 10 * time.Second}).Result()
			arrivals <- seen{time.Now(), err}
			if err != nil {
				return
			}
			after = streams[0].Messages[len(streams[0].Messages)-1].ID
		}
	}()
	var took series
	for i := range n {
		sent, err := c.commit(ctx, i%(c.teams*c.perTeam)+1)
		if err != nil {
			return nil, err
		}
		arrival := <-arrivals
		if arrival.err != nil {
			return nil, fmt.Errorf("waiting for a change: %w", arrival.err)
		}
		took = append(took, max(0, arrival.at.Sub(sent).Seconds()*1e3))
	}
	return took, nil
}

// untilServed follows the version of one team's answers, which grows with every change.
func (c *chain) untilServed(ctx context.Context, n int) (series, error) {
	_, addr, err := c.h.decide(ctx, c.redis.URL(0), "GOMAXPROCS=2")
	if err != nil {
		return nil, err
	}
	r, err := c.h.newRequest("first", fmt.Sprintf("phc_%043d", 1))
	if err != nil {
		return nil, err
	}
	version := func() (http.Header, error) {
		_, headers, err := sample(ctx, addr, r)
		return headers, err
	}
	headers, err := version()
	if err != nil {
		return nil, err
	}
	var took series
	for i := range n {
		before := headers.Get("X-Everflag-Version")
		sent, err := c.commit(ctx, i%c.perTeam+1)
		if err != nil {
			return nil, err
		}
		for deadline := sent.Add(10 * time.Second); headers.Get("X-Everflag-Version") == before; {
			if headers, err = version(); err != nil {
				return nil, err
			}
			if time.Now().After(deadline) {
				return nil, fmt.Errorf("change %d was not served within 10 s", i)
			}
		}
		took = append(took, time.Since(sent).Seconds()*1e3)
	}
	return took, nil
}
