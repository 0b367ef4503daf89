package main

import (
	"context"
	"time"
)

// idleSection measures what the programs take when nothing happens, and what log of other tables costs the replicator.
func idleSection(ctx context.Context, h *harness) error {
	c, err := h.openChain(ctx, 600, 10) // a table of 3 MB
	if err != nil {
		return err
	}
	decide, _, err := h.decide(ctx, c.redis.URL(0))
	if err != nil {
		return err
	}
	span := pick(h.quick, 5*time.Second, 20*time.Second)
	var ours, theirs, busy, unrelated, megabytes series
	for range pick(h.quick, 1, 3) {
		before, beforeDecide := c.replicator.used(), decide.used()
		if err := rest(ctx, span); err != nil {
			return err
		}
		ours = append(ours, percent(c.replicator.used().since(before), span))
		theirs = append(theirs, percent(decide.used().since(beforeDecide), span))

		before = c.replicator.used()
		start := time.Now()
		written, err := c.elsewhere(ctx, span)
		if err != nil {
			return err
		}
		took := time.Since(start)
		busy = append(busy, percent(c.replicator.used().since(before), took))
		megabytes = append(megabytes, written/took.Seconds())
	}
	for i := range ours {
		unrelated = append(unrelated, max(0, busy[i]-ours[i]))
	}
	h.report.table("6,000 flags, 3 MB", "CPU % of a core", "RSS MB")
	h.report.row("replicator, idle", ours, c.replicator.memory("VmRSS"))
	h.report.row("decide, idle", theirs, decide.memory("VmRSS"))
	h.report.row("replicator, other tables at "+megabytes.String()+" MB/s of log", busy, c.replicator.memory("VmRSS"))
	h.report.atMost("CPU of the idle replicator", ours, 0.5, " %")
	h.report.atMost("RSS of the idle replicator, 3 MB of flags", series{c.replicator.memory("VmRSS")}, 30, " MB")
	h.report.atMost("cost of unrelated log at 20 MB/s", unrelated, 2, " %")
	return nil
}

func percent(u usage, of time.Duration) float64 { return 100 * u.ran.Seconds() / of.Seconds() }

func rest(ctx context.Context, span time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(span):
		return nil
	}
}

// elsewhere writes 20 MB of log per second for tables that are not watched, and returns how many MB came out.
func (c *chain) elsewhere(ctx context.Context, span time.Duration) (float64, error) {
	const perSecond, step = 20 << 20, 100 * time.Millisecond
	before, err := c.position(ctx)
	if err != nil {
		return 0, err
	}
	for start, n := time.Now(), 0; time.Since(start) < span; n++ {
		const rows, bytes = 20, perSecond / 10 / 20
		_, err := c.db.Exec(ctx, "INSERT INTO elsewhere SELECT i, repeat(md5(random()::text), $1) FROM generate_series(1, $2::int) i", bytes/32, rows)
		if err != nil {
			return 0, err
		}
		if err := rest(ctx, time.Until(start.Add(time.Duration(n+1)*step))); err != nil {
			return 0, err
		}
	}
	var written float64
	if err := c.db.QueryRow(ctx, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::text::pg_lsn)::float8", before).Scan(&written); err != nil {
		return 0, err
	}
	_, err = c.db.Exec(ctx, "TRUNCATE elsewhere")
	return written / (1 << 20), err
}
