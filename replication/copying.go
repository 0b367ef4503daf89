package replication

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/killpoint"
)

// copying is one attempt at an exact copy. While it is prepared the leader goes on, but holds transactions back: those that end after the consistent point
// must come after the copy. Methods may be called on nil, which is no attempt.
type copying struct {
	cancel     context.CancelFunc
	done       sync.WaitGroup
	consistent chan change.LSN // holds one
	ready      chan prepared   // holds one
	budget     *time.Timer     // until a trusted cache has been held back long enough; nil if it is not trusted
	at         change.LSN      // the consistent point; 0 = not known yet
	held       bool
	started    time.Time
	snapshot   *snapshot // once it can be read
	overdue    bool      // the stream did not pass the point in time; the copy is as exact without it
}

type prepared struct {
	snapshot *snapshot
	err      error
}

func (c *copying) holds() bool { return c != nil && c.held }

// readable reports whether the tables can be read by now.
func (c *copying) readable() bool { return c != nil && c.snapshot != nil }

func (c *copying) consistentAt() change.LSN {
	if c == nil {
		return 0
	}
	return c.at
}

func (c *copying) consistentC() <-chan change.LSN {
	if c == nil {
		return nil
	}
	return c.consistent
}

func (c *copying) readyC() <-chan prepared {
	if c == nil {
		return nil
	}
	return c.ready
}

func (c *copying) budgetC() <-chan time.Time {
	if c == nil || c.budget == nil {
		return nil
	}
	return c.budget.C
}

// How long a trusted cache is held back for a copy: four times longer with every attempt, so that one of them succeeds however busy the source is.
const (
	holdMin = 2 * time.Second
	holdMax = 10 * time.Minute
)

// copyStart begins an attempt.
func (l *leader) copyStart(ctx context.Context) {
	l.copyTry++
	copyCtx, cancel := context.WithCancel(ctx)
	c := &copying{
		cancel: cancel, held: true, started: time.Now(),
		consistent: make(chan change.LSN, 1), ready: make(chan prepared, 1),
	}
	if l.trusted {
		c.budget = time.NewTimer(min(holdMin<<(2*min(l.copyTry-1, 10)), holdMax))
	}
	if l.fill == nil {
		l.fill = newFiller(l.s)
	}
	l.copying = c
	l.r.copiedTeams.Store(0)
	l.r.copiedRows.Store(0)
	l.r.updateReconcile(func(st *ReconcileStatus) { st.Stage, st.RowsTotal = stageWaiting, l.s.catalog.rows() })
	tables, source := len(l.s.catalog.tables), l.s.source
	said := newWaiting(l.r, l.log)
	c.done.Go(func() {
		snap, err := exactSnapshot(copyCtx, l.cfg, &l.s.server, source, tables, func(at change.LSN) { c.consistent <- at }, said.tell)
		c.ready <- prepared{snapshot: snap, err: err}
	})
}

// copyConsistent learns the point of the copy.
func (l *leader) copyConsistent(at change.LSN) {
	c := l.copying
	c.at, c.held = at, true
	if _, discarding := l.receiver.queue.lost(); discarding {
		l.floor, l.gone = max(l.floor, l.receiver.queue.keep()), false
	}
	l.r.updateReconcile(func(st *ReconcileStatus) { st.Stage, st.Waiting = stageSnapshot, "" })
	if l.shown() > at {
		l.copyAbort(0)
		return
	}
	signal(l.receiver.queue.readable) // what ends at or before the point may be applied
	l.receiver.poke()
}

// copyReady takes the snapshot, whose tables may be read now.
func (l *leader) copyReady(p prepared) error {
	c := l.copying
	c.done.Wait()
	if p.err != nil {
		return l.copyFailed(p.err)
	}
	c.snapshot = p.snapshot
	return nil
}

// copyDue reports whether the copy's turn has come: for a trusted cache when the stream has passed its point, so that whatever the copy still changes is
// drift, or cannot pass it but by a transaction that the copy is for.
func (l *leader) copyDue() bool {
	c := l.copying
	if c == nil || c.snapshot == nil || len(l.hand) > 0 {
		return false
	}
	return !l.trusted || c.overdue || l.receiver.queue.beyond(c.at) || l.receiver.passing(c.at) || change.LSN(l.reached.Load()) >= c.at
}

// shown is the position before which no copy may lie: the cache would go backwards, or miss what was dropped.
func (l *leader) shown() change.LSN {
	floor := l.floor
	if l.fill != nil {
		floor = max(floor, l.fill.floor)
	}
	if l.trusted {
		floor = max(floor, l.checkpoint)
	}
	return floor
}

// provisional fills a cache that is not trusted while the copy waits.
func (l *leader) provisional(ctx context.Context) error {
	if l.copying == nil || l.trusted || l.outage {
		return nil
	}
	err := l.fill.tick(ctx)
	if errors.Is(err, change.ErrFenced) || ctx.Err() != nil {
		return err
	}
	if err != nil {
		l.log.Warn("the cache could not be filled provisionally", zap.Error(err))
		l.fill.due = time.Now().Add(l.cfg.ProvisionalAfter)
	}
	return nil
}

// copyBudget ends the patience with which a trusted cache is held back.
func (l *leader) copyBudget() {
	c := l.copying
	switch {
	case c.at == 0: // the stream goes on; if it passes the point of the copy, another attempt is made
		c.held = false
	case c.snapshot != nil:
		c.overdue = true
	case l.receiver.queue.empty():
		c.budget.Reset(holdMin)
	default:
		l.log.Warn("a consistent copy takes too long, trying again", zap.Int("attempt", l.copyTry))
		l.copyAbort(holdMin)
	}
}

// copyAbort gives the attempt up; the next one starts after the pause.
func (l *leader) copyAbort(pause time.Duration) {
	c := l.copying
	if c == nil {
		return
	}
	c.cancel()
	c.done.Wait()
	select {
	case p := <-c.ready:
		c.snapshot = p.snapshot
	default:
	}
	if c.snapshot != nil {
		c.snapshot.close()
	}
	if c.budget != nil {
		c.budget.Stop()
	}
	l.copying = nil
	l.copyNext = time.Now().Add(pause)
	l.wakeAt(l.copyNext)
}

// reconcile makes the cache equal to the copy.
func (l *leader) reconcile(ctx context.Context) error {
	c := l.copying
	snap := c.snapshot
	if l.shown() > snap.at {
		l.copyAbort(0)
		return nil
	}
	reason, began := l.pending, time.Now()
	l.r.updateReconcile(func(st *ReconcileStatus) { st.Stage, st.Waiting = stageCopying, "" })
	l.receiver.rest(snap.at)
	result, err := l.replace(ctx, snap, reason)
	l.receiver.rest(0)
	if err != nil {
		// Some teams may be as of the copy by now and others not. No row may be applied to them, nor an older copy.
		l.distrust()
		l.floor = max(l.floor, snap.at)
		return l.copyFailed(err)
	}
	// The cache is exact as of the copy. A crash here leaves the slot behind the checkpoint, as after any batch.
	l.copyAbort(0)
	l.copyTry, l.floor, l.fill, l.pending, l.r.renewed = 0, 0, nil, "", ""
	l.trusted, l.established, l.unproven = true, true, false
	l.define(snap.catalog, began)
	l.s.catalog = snap.catalog
	l.receiver.queue.dropThrough(snap.at)
	l.idle = item{}
	l.moved(snap.at, false)
	l.reconciled(ReconcileReport{
		Reason: reason, At: snap.at.String(), Finished: time.Now(), Took: time.Since(c.started),
		Teams: result.Teams, Rows: result.Rows, TeamsWritten: result.TeamsWritten, TeamsGone: result.TeamsGone,
	})
	return nil
}

// errCopy marks errors on the source's side of a reconcile.
var errCopy = errors.New("reading the copy")

// replace hands the copy to the sink.
func (l *leader) replace(ctx context.Context, snap *snapshot, reason string) (result change.ReconcileResult, err error) {
	killpoint.Hit(killpoint.Reconcile)
	err = snap.giveWay(ctx, l.cfg, func(ctx context.Context) error {
		teams := snap.teams(ctx, l.r.copied)
		marked := func(yield func(change.TeamRows, error) bool) {
			for rows, err := range teams {
				if err != nil {
					err = fmt.Errorf("%w: %w", errCopy, err)
				}
				if !yield(rows, err) || err != nil {
					return
				}
			}
		}
		var err error
		result, err = l.sink.Reconcile(ctx, change.Copy{Source: snap.source, At: snap.at, Exact: true, Reason: reason, Teams: marked})
		return err
	})
	killpoint.Hit(killpoint.Reconcile)
	return result, err
}

// copyFailed schedules another attempt.
func (l *leader) copyFailed(err error) error {
	pause := min(sinkRetryMin<<min(l.copyTry, 10), sessionRetryMax)
	l.copyAbort(pause)
	l.r.metrics.reconciles.WithLabelValues(resultFailed).Inc()
	if lasting(err) || Permanent(err) && !l.r.established && !l.established {
		return err
	}
	fromSource := errors.Is(err, errCopy) || errors.Is(err, errMoved)
	if !fromSource && errors.Is(err, change.ErrFenced) {
		return err
	}
	l.log.Warn("a reconcile did not complete, trying again", zap.Error(err), zap.Int("attempt", l.copyTry))
	return nil
}

// reconciled tells everybody who waits.
func (l *leader) reconciled(report ReconcileReport) {
	l.log.Info("reconciled", zap.String("reason", report.Reason), zap.String("at", report.At), zap.Int("teams", report.Teams), zap.Int("rows", report.Rows),
		zap.Int("teams_written", report.TeamsWritten), zap.Int("teams_gone", report.TeamsGone), zap.Duration("took", report.Took))
	m := l.r.metrics
	m.pending.Set(0)
	m.reconciles.WithLabelValues(resultComplete).Inc()
	m.reconcileSeconds.Set(report.Took.Seconds())
	m.reconcileTeams.Set(float64(report.TeamsWritten + report.TeamsGone))
	l.r.update(func(st *Status) {
		st.Reconcile, st.Reconciled = nil, &report
		st.LastError, st.ErrorSince = "", time.Time{}
	})
	for _, req := range l.rebuilds {
		req.done <- response{report: report}
	}
	l.rebuilds = nil
	l.verifyAgain(report)
	debug.FreeOSMemory() // a copy takes more than the stream, which would go on with all of it
}
