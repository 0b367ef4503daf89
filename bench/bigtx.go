package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// bigTxSection measures a transaction that is too large to be applied row by row, and what memory that takes.
func bigTxSection(ctx context.Context, h *harness) error {
	teams, perTeam := pick(h.quick, 4000, 20_000), 50
	c, err := h.openChain(ctx, teams, perTeam)
	if err != nil {
		return err
	}
	rows := float64(teams * perTeam)
	reconciled, err := c.refill(ctx)
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // it has nothing to do from now on
	idle, peakReconcile := c.replicator.memory("VmRSS"), c.replicator.memory("VmHWM")
	var took, receiving series
	reconciles := series{reconciled}
	for range pick(h.quick, 1, 2) {
		one, peak, err := c.bigTx(ctx)
		if err != nil {
			return err
		}
		took, receiving = append(took, one), append(receiving, peak)
		if reconciled, err = c.rewritten(ctx); err != nil {
			return err
		}
		reconciles = append(reconciles, reconciled)
	}
	h.report.table(number(rows)+" flags", "seconds", "rows/s", "RSS MB of the replicator")
	h.report.row("one reconcile in which every team differs", reconciles, rows/reconciles.median(), fmt.Sprintf("%s, idle %s", number(peakReconcile), number(idle)))
	h.report.row("one transaction, COMMIT to cache equal", took, rows/took.median(), receiving)
	ratio := series{took.median() / reconciles.median()}
	h.report.note("RSS is the largest while it went on; idle: two seconds after a reconcile into an empty Redis, the index of all flags included.")
	h.report.atMost("transaction of "+number(rows)+" rows vs one reconcile", ratio, 1.3, "×")
	scale := pick(h.quick, " (budget is for 1,000,000)", "")
	h.report.atMost("RSS, "+number(rows)+" flags, idle"+scale, series{idle}, 100, " MB")
	h.report.atMost("RSS, "+number(rows)+" flags, receiving one transaction of all"+scale, receiving, 150, " MB")
	h.report.atMost("RSS, "+number(rows)+" flags, reconciling"+scale, series{peakReconcile}, 200, " MB")
	return nil
}

// bigTx updates every flag in one transaction. It returns how long that took from COMMIT to an equal cache, and the largest resident set meanwhile.
func (c *chain) bigTx(ctx context.Context) (seconds, peak float64, err error) {
	watching, stop := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for watching.Err() == nil {
			peak = max(peak, c.replicator.memory("VmRSS"))
			select {
			case <-watching.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	seconds, err = c.updateAll(ctx)
	stop()
	watcher.Wait()
	return seconds, peak, err
}

func (c *chain) updateAll(ctx context.Context) (float64, error) {
	before, err := c.lastReconcile(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := c.db.Exec(ctx, "BEGIN"); err != nil {
		return 0, err
	}
	if err := c.change(ctx); err != nil {
		return 0, err
	}
	sent := time.Now()
	if _, err := c.db.Exec(ctx, "COMMIT"); err != nil {
		return 0, err
	}
	err = pollStatus(ctx, 10*time.Minute, "the cache to be equal after a large transaction", func() (bool, error) {
		report, err := c.lastReconcile(ctx)
		return report.Finished.After(before.Finished) && report.TeamsWritten == c.teams, err
	})
	return time.Since(sent).Seconds(), err
}

func (c *chain) change(ctx context.Context) error {
	c.changes++
	_, err := c.db.Exec(ctx, fmt.Sprintf("UPDATE posthog_featureflag SET name = 'The change %d of a flag, with a description of ordinary length that says what it is good for'", c.changes))
	return err
}

// rewritten returns how long a reconcile takes in which every team differs: the flags are changed while the replicator is stopped, and the slot is gone.
func (c *chain) rewritten(ctx context.Context) (float64, error) {
	if err := c.replicator.stop(); err != nil {
		return 0, err
	}
	err := poll(ctx, time.Minute, "the slot to be free", func() (free bool, err error) { // its walsender may be busy with the transaction still
		err = c.db.QueryRow(ctx, "SELECT count(pg_drop_replication_slot(slot_name)) = 1 FROM pg_replication_slots WHERE slot_name = $1 AND NOT active", slot).Scan(&free)
		return free, err
	})
	if err != nil {
		return 0, err
	}
	if _, err := c.db.Exec(ctx, "VACUUM posthog_featureflag"); err != nil {
		return 0, err
	}
	if err := c.change(ctx); err != nil {
		return 0, err
	}
	if err := c.startReplicator(ctx); err != nil {
		return 0, err
	}
	report, err := c.lastReconcile(ctx)
	if err == nil && report.TeamsWritten != c.teams {
		err = fmt.Errorf("a reconcile of a changed table wrote %d of %d teams", report.TeamsWritten, c.teams)
	}
	return report.Took.Seconds(), err
}
