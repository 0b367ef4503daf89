package main

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"
	"time"

	"github.com/everflag/everflag/internal/change"
)

// manyTeams has teams with ten flags, spread evenly among others without any.
func manyTeams(withFlags, without int) iter.Seq2[change.TeamRows, error] {
	return func(yield func(change.TeamRows, error) bool) {
		all := withFlags + without
		for id := range all {
			flags := 0
			if id*withFlags%all < withFlags {
				flags = 10
			}
			if !yield(teamRows(int64(id+1), fmt.Sprintf("phc_%043d", id), flags, false), nil) {
				return
			}
		}
	}
}

// startupSection measures the start of decide in a large installation, from Redis and from its file.
func startupSection(ctx context.Context, h *harness) error {
	const withFlags, without = 24_000, 214_000
	began := time.Now()
	c, err := h.fill(ctx, manyTeams(withFlags, without))
	if err != nil {
		return err
	}
	h.report.note("Writing this cache as a reconcile does took %.1f s.", time.Since(began).Seconds())
	file := filepath.Join(h.dir, "snapshot")
	var fromRedis, cpuRedis, fromFile, cpuFile, rssRedis, rssFile, peak series
	start := func(redisURL string, took, cpu, rss *series) error {
		p, _, err := h.decide(ctx, redisURL, "DECIDE_SNAPSHOT_FILE="+file)
		if err != nil {
			return err
		}
		*took = append(*took, time.Since(p.started).Seconds())
		*cpu = append(*cpu, p.used().ran.Seconds())
		*rss, peak = append(*rss, p.memory("VmRSS")), append(peak, p.memory("VmHWM"))
		return p.stop() // writes the file
	}
	for range pick(h.quick, 1, 3) {
		// Without the file: a start with one would be ready before Redis has been read.
		p, _, err := h.decide(ctx, c.redis.URL(0))
		if err != nil {
			return err
		}
		fromRedis, cpuRedis = append(fromRedis, time.Since(p.started).Seconds()), append(cpuRedis, p.used().ran.Seconds())
		rssRedis, peak = append(rssRedis, p.memory("VmRSS")), append(peak, p.memory("VmHWM"))
		if err := p.stop(); err != nil {
			return err
		}
	}
	var ignored series
	if err := start(c.redis.URL(0), &ignored, &ignored, &ignored); err != nil { // leaves the file
		return err
	}
	for range pick(h.quick, 1, 3) {
		if err := start("", &fromFile, &cpuFile, &rssFile); err != nil {
			return err
		}
	}
	h.report.table("start from", "seconds to ready", "CPU s", "RSS MB when ready")
	h.report.row("Redis", fromRedis, cpuRedis, rssRedis)
	h.report.row("snapshot file", fromFile, cpuFile, rssFile)
	h.report.note("decide had one core (GOMAXPROCS=1). Its largest resident set in any of these starts was %s MB.", number(peak.quantile(1)))
	h.report.atMost("start to ready from Redis", fromRedis, 5, " s")
	h.report.atMost("start to ready from the snapshot file", fromFile, 3, " s")
	h.report.atMost("RSS when ready, 238,000 teams", rssRedis, 400, " MB")
	return nil
}
