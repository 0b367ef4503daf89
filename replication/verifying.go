package replication

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/change"
)

// verifying is a verify that the leader runs beside the stream. Methods may be called on nil, which is none.
type verifying struct {
	repair  bool
	waiters []request
	done    chan verifyOutcome // holds one
	found   *verifyOutcome     // drift that a reconcile is to mend; nil while the comparison runs
	stop    func()             // cancels it and returns when it has ended
}

type verifyOutcome struct {
	report VerifyReport
	err    error
}

func (v *verifying) doneC() <-chan verifyOutcome {
	if v == nil {
		return nil
	}
	return v.done
}

// request takes a request of an operator.
func (l *leader) request(ctx context.Context, req request) {
	if !req.verify {
		l.rebuilds = append(l.rebuilds, req)
		l.want("a rebuild was asked for")
		return
	}
	if l.verify == nil {
		l.verifyStart(ctx, req.repair, &req)
		return
	}
	l.verify.repair = l.verify.repair || req.repair
	l.verify.waiters = append(l.verify.waiters, req)
}

// want makes a reconcile due unless one is. One that is due has not compared anything yet, for that keeps the leader from coming here; and a mark of its own would outlive it: a
// rebuild that was answered would leave a cache behind that calls itself incomplete.
func (l *leader) want(reason string) {
	if l.pending == "" && l.mark == "" {
		l.mark = reason
	}
	l.wakeAt(time.Now())
}

// How soon a verify is tried again that did not complete: it may have given way to a migration, or found no free connection.
const (
	verifyRetryMin = time.Second
	verifyRetryMax = time.Hour
)

// verifyDue reports whether it is time for a verify that nobody has asked for.
func (l *leader) verifyDue(now time.Time) bool {
	if l.verify != nil || l.pending != "" || l.mark != "" || !l.established || now.Before(l.verifyNext) {
		return false
	}
	return l.unproven || l.cfg.VerifyEvery > 0 && now.Sub(l.r.lastVerify) >= l.cfg.VerifyEvery
}

// verifyStart begins a verify.
func (l *leader) verifyStart(ctx context.Context, repair bool, waiter *request) {
	ctx, cancel := context.WithCancel(ctx)
	v := &verifying{repair: repair, done: make(chan verifyOutcome, 1)}
	if waiter != nil {
		v.waiters = []request{*waiter}
	}
	l.verify = v
	tables := len(l.s.catalog.tables)
	run := verifier{
		cfg:     l.cfg,
		compare: l.sink.Compare,
		open: func(ctx context.Context) (*snapshot, error) {
			return ordinarySnapshot(ctx, l.cfg, tables, l.s.source, &l.s.server)
		},
		passed: func(ctx context.Context, at change.LSN) error {
			return pollUntil(ctx, 20*time.Millisecond, func() (bool, error) { return change.LSN(l.reached.Load()) >= at, nil })
		},
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		report, err := run.run(ctx)
		v.done <- verifyOutcome{report: report, err: err}
	}()
	v.stop = func() {
		cancel()
		<-ended
	}
}

// verified takes the result of the comparison.
func (l *leader) verified(ctx context.Context, found verifyOutcome) error {
	v := l.verify
	v.stop()
	if found.err != nil {
		l.verifyNext = time.Now().Add(l.verifyRetry.Next())
		l.log.Warn("a verify did not complete", zap.Error(found.err))
		l.verifyEnd(found, resultFailed)
		return nil
	}
	l.r.lastVerify = time.Now()
	l.verifyRetry.Reset()
	if found.report.Drift == 0 {
		l.verifyEnd(found, resultClean)
		if l.trusted && l.pending == "" && l.mark == "" {
			l.unproven = false
			return l.confirm(ctx)
		}
		return nil
	}
	first := found.report.Differences[0]
	l.log.Error("the cache differs from its source", zap.Int("records", found.report.Drift), zap.Int64("team", first.Team),
		zap.String("entity", first.Entity), zap.String("key", first.Key), zap.String("detail", first.Detail), zap.Bool("repair", v.repair))
	if !v.repair {
		l.verifyEnd(found, resultDrift)
		return nil
	}
	v.found = &found
	l.want("a verify found drift")
	return nil
}

// verifyAgain ends a verify whose drift a reconcile has mended. The reconcile compared under hold: if it wrote nothing, changes on their way were mistaken
// for drift.
func (l *leader) verifyAgain(r ReconcileReport) {
	if l.verify == nil || l.verify.found == nil {
		return
	}
	found := *l.verify.found
	found.report.Repaired = true
	if r.TeamsWritten+r.TeamsGone == 0 {
		found.report.Drift, found.report.Differences, found.report.Repaired = 0, nil, false
		l.verifyEnd(found, resultClean)
		return
	}
	l.verifyEnd(found, resultDrift)
}

// verifyEnd publishes the result.
func (l *leader) verifyEnd(found verifyOutcome, result string) {
	report := found.report
	report.Finished = time.Now()
	if found.err != nil {
		report.Error = found.err.Error()
	}
	m := l.r.metrics
	m.verifies.WithLabelValues(result).Inc()
	m.verified.Set(float64(report.Finished.Unix()))
	m.drift.Set(float64(report.Drift))
	l.r.update(func(st *Status) { st.Verify = &report })
	if found.err == nil {
		l.log.Info("verified", zap.Int64("teams", report.Teams), zap.Int64("rows", report.Rows), zap.Int("drift", report.Drift),
			zap.Int("looks", report.Looks), zap.Duration("took", report.Finished.Sub(report.Started)))
	}
	for _, req := range l.verify.waiters {
		req.done <- response{verify: report, err: found.err}
	}
	l.verify = nil
}

// abandon answers everybody who still waits when the session ends, and ends what runs beside the stream.
func (l *leader) abandon(err error) {
	l.copyAbort(0)
	for _, req := range l.rebuilds {
		req.done <- response{err: err}
	}
	if l.verify != nil {
		l.verify.stop()
		for _, req := range l.verify.waiters {
			req.done <- response{err: err}
		}
	}
	l.retryTimer.Stop()
}
