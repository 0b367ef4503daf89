package replication

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/backoff"
	"github.com/everflag/everflag/internal/change"
)

// How the leader keeps time.
const (
	beatEvery    = time.Second
	drainWithin  = 5 * time.Second // for what was received when the connection ended, or the program is told to stop
	sinkRetryMin = 50 * time.Millisecond
	sinkRetryMax = time.Second
)

// leader applies what the receiver queues. It is the only one that calls the sink, but for Compare and Observe. All fields are its own.
//
// The cache is trusted while every transaction up to the checkpoint is in it, row by row. A transaction that cannot be applied like that, a reconcile that
// broke off half-way and log that was released end the trust: from then on transactions are held back until an exact copy has completed.
type leader struct {
	s        *session
	r        *Replicator
	cfg      *Config
	log      *zap.Logger
	sink     Sink
	receiver *receiver
	watch    *watcher

	confirmed, walEnd change.LSN // of slot and log, when the slot became ours

	acquired    bool
	established bool // streams, or has reconciled
	trusted     bool
	gone        bool // log was given back, and no copy has begun since
	checkpoint  change.LSN
	checkpointM time.Time  // when it was last moved
	floor       change.LSN // an exact copy must not be of an earlier position: what came before it is gone, or shown already
	idle        item       // a position that is yet to be written
	idleTried   change.LSN // one that failed, and must be tried again as it was
	hand        []item     // a batch that is being applied, until it succeeds
	mark        string     // marker that is yet to be set
	pending     string     // marker that is set
	fingerprint string
	layouts     map[*binding]string // signatures of the definitions that hold
	definedAt   time.Time           // when fingerprint and layouts were read
	lag         lag

	outage     bool // the sink fails
	retry      backoff.Backoff
	retryTimer *time.Timer

	reached atomic.Uint64 // position that the cache has reached, for the verifier to read

	copying  *copying    // the attempt at a copy that is under way; nil = none
	copyTry  int         // attempts since the last complete one
	copyNext time.Time   // the next attempt does not begin before
	fill     *filler     // across attempts
	alarm    *time.Timer // see wakeAt
	rebuilds []request   // that wait for a reconcile
	verify   *verifying  // nil = none

	unproven    bool // the server may be another one than the cache mirrors: until a verify has ended, nobody knows
	verifyNext  time.Time
	verifyRetry backoff.Backoff
}

// errSessionEnded is the answer to requests that a session leaves behind.
var errSessionEnded = errors.New("the session with Postgres ended")

func newLeader(s *session, w *watcher, confirmed, walEnd change.LSN) *leader {
	l := &leader{
		s: s, r: s.r, cfg: s.cfg, log: s.log, sink: s.r.sink, receiver: s.receiver, watch: w,
		confirmed: confirmed, walEnd: walEnd,
		retry:       backoff.Backoff{Min: sinkRetryMin, Max: sinkRetryMax},
		verifyRetry: backoff.Backoff{Min: verifyRetryMin, Max: verifyRetryMax},
		retryTimer:  time.NewTimer(0),
		alarm:       time.NewTimer(time.Hour), // until wakeAt says when; to plan once too often does no harm
	}
	l.define(s.catalog, time.Now())
	return l
}

// define takes over the definitions of the tables that the cache reflects from now on.
func (l *leader) define(c *catalog, at time.Time) {
	l.fingerprint, l.definedAt = c.fingerprint, at
	l.layouts = map[*binding]string{}
	for _, t := range c.tables {
		l.layouts[t.binding] = t.layout.signature
	}
}

// run leads until the context ends or the session has to.
func (l *leader) run(ctx context.Context) error {
	// What is in hand when the program is told to stop is finished, within bounds (F7).
	sinkCtx, cancelSink := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelSink()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(drainWithin, cancelSink) })
	defer stop()
	defer l.abandon(errSessionEnded)

	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		err := l.plan(ctx)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.receiver.done:
			return l.drain(sinkCtx)
		case err = <-l.watch.failed:
			return err
		case <-l.retryTimer.C:
			err = l.recover(sinkCtx)
		case <-l.alarm.C:
		case <-l.readable():
			err = l.apply(sinkCtx)
		case <-beat.C:
			if err := l.provisional(ctx); err != nil {
				return err
			}
			if l.acquired && !l.outage { // recover beats otherwise
				err = l.beat(sinkCtx)
			}
		case tx := <-l.receiver.foresight.found:
			err = l.foresee(sinkCtx, tx)
		case report := <-l.watch.reports:
			l.observe(report)
		case lsn := <-l.copying.consistentC():
			l.copyConsistent(lsn)
		case <-l.copying.budgetC():
			l.copyBudget()
		case ready := <-l.copying.readyC():
			err = l.copyReady(ready)
		case found := <-l.verify.doneC():
			err = l.verified(sinkCtx, found)
		case req := <-l.r.requests:
			l.request(ctx, req)
		}
		if err != nil {
			return err
		}
	}
}

// plan starts what is due and possible.
func (l *leader) plan(ctx context.Context) error {
	l.released()
	if !l.acquired || l.outage {
		return nil
	}
	if l.copyDue() {
		if err := l.reconcile(ctx); err != nil {
			return err
		}
	}
	if l.pending != "" && l.mark == "" && l.copying == nil && !time.Now().Before(l.copyNext) {
		l.copyStart(ctx)
	}
	if l.verifyDue(time.Now()) {
		l.verifyStart(ctx, true, nil)
	}
	return nil
}

// wakeAt makes the loop plan again by then.
func (l *leader) wakeAt(at time.Time) {
	l.alarm.Reset(max(0, time.Until(at)))
}

// readable is the queue's channel, or nil while nothing may be taken.
func (l *leader) readable() <-chan struct{} {
	if !l.acquired || l.outage || !l.trusted || l.copying.holds() && l.copying.at == 0 {
		return nil
	}
	return l.receiver.queue.readable
}

// failed handles an error of the sink: nil means that it will be tried again.
func (l *leader) failed(err error) error {
	if errors.Is(err, change.ErrFenced) {
		l.recovered() // it answers, so that the next session need not let others go first
		return err
	}
	l.r.metrics.sinkErrors.Inc()
	if Permanent(err) && !l.r.established && !l.established {
		return err
	}
	if !l.outage {
		l.log.Warn("the cache does not answer, trying again", zap.Error(err))
		l.r.update(func(st *Status) { st.CacheError, st.Ready = err.Error(), false })
		l.outage = true
	}
	l.retryTimer.Reset(l.retry.Next())
	return nil
}

// recovered ends an outage.
func (l *leader) recovered() {
	l.retry.Reset()
	if l.outage {
		l.outage = false
		l.log.Info("the cache answers again")
		l.r.update(func(st *Status) { st.CacheError = "" })
	}
}

// recover does again what failed.
func (l *leader) recover(ctx context.Context) error {
	switch {
	case !l.acquired:
		return l.acquire(ctx)
	case len(l.hand) > 0: // before anything else, with the same arguments: it may have taken effect
		return l.applyHand(ctx)
	case l.outage:
		return l.beat(ctx)
	}
	return nil
}

// acquire takes the cache's leadership and decides how to start. The slot is ours already, so that its position stands still.
func (l *leader) acquire(ctx context.Context) error {
	position, err := l.s.acquire(ctx)
	if lasting(err) {
		return err
	}
	if err != nil {
		return l.failed(err)
	}
	l.recovered()
	d := decideStart(l.s.facts(position, l.confirmed, l.walEnd, l.r.renewed))
	log := l.log.With(zap.Stringer("checkpoint", position.Checkpoint), zap.Stringer("confirmed", l.confirmed), zap.String("reason", d.reason))
	l.acquired, l.checkpoint, l.pending = true, position.Checkpoint, position.Reconcile
	switch d.action {
	case actStream:
		log.Info("streaming")
		l.trusted, l.established = true, true
		l.receiver.confirm(l.checkpoint, false)
		l.r.metrics.pending.Set(0)
		l.r.update(func(st *Status) { st.LastError, st.ErrorSince, st.Reconcile = "", time.Time{}, nil })
		if l.unproven = d.verify; l.unproven {
			return nil
		}
		return l.confirm(ctx)
	case actReconcile:
		log.Info("reconciling")
		l.mark = d.reason
		return l.setMark(ctx)
	case actRefuse, actRecreate, actStandBy:
	}
	return refuse("%s", d.reason)
}

// confirm records the source in the cache.
func (l *leader) confirm(ctx context.Context) error {
	source := l.s.source
	source.Fingerprint = l.fingerprint
	if err := l.sink.Confirm(ctx, source); err != nil {
		if errors.Is(err, change.ErrFenced) {
			return err
		}
		l.log.Warn("the source could not be recorded in the cache", zap.Error(err)) // the next start verifies once more
	}
	return nil
}

// setMark sets the reconcile marker.
func (l *leader) setMark(ctx context.Context) error {
	if err := l.sink.Mark(ctx, l.mark); err != nil {
		return l.failed(err)
	}
	l.recovered()
	l.due(l.mark)
	l.mark = ""
	return nil
}

// due notes that the marker is set.
func (l *leader) due(reason string) {
	if l.pending == "" || l.pending != reason {
		l.log.Info("a reconcile is due", zap.String("reason", reason))
	}
	l.pending = reason
	l.r.metrics.pending.Set(1)
	l.r.update(func(st *Status) {
		st.Ready = false
		if st.Reconcile == nil {
			st.Reconcile = &ReconcileStatus{Reason: reason, Since: time.Now(), Stage: stageWaiting}
		}
	})
}

// beat proves that we lead and, if the cache follows closely, says so.
func (l *leader) beat(ctx context.Context) error {
	if l.mark != "" {
		if err := l.setMark(ctx); err != nil || l.mark != "" {
			return err
		}
	}
	now := time.Now()
	fresh := l.trusted && l.pending == "" && l.mark == "" && !l.copying.holds() && l.lag.fresh(now)
	if err := l.sink.Beat(ctx, fresh); err != nil {
		return l.failed(err)
	}
	l.recovered()
	l.r.rescues = 0
	l.r.update(func(st *Status) { st.Ready, st.looked, st.CacheError = fresh, now, "" }) // the error may be of the leadership before
	return l.idleCheckpoint(ctx, now)
}

// observe takes in what the watcher saw.
func (l *leader) observe(r report) {
	l.lag.observe(r.at, r.walEnd)
	if l.trusted && l.receiver.queue.empty() && len(l.hand) == 0 {
		l.reach(max(l.checkpoint, l.idle.position))
	}
	age, known := l.lag.behind(time.Now())
	seconds := age.Seconds()
	if !known {
		seconds = -1
	}
	behind := max(0, int64(r.walEnd)-int64(max(l.checkpoint, l.idle.position)))
	acknowledged := change.LSN(l.receiver.acknowledged.Load())
	m := l.r.metrics
	m.lagSeconds.Set(seconds)
	m.lagBytes.Set(float64(behind))
	m.retained.Set(float64(r.retained))
	m.queued.Set(float64(l.receiver.queue.used()))
	l.r.update(func(st *Status) {
		st.WALEnd, st.Checkpoint, st.Acknowledged = r.walEnd.String(), l.checkpoint.String(), acknowledged.String()
		st.LagBytes, st.LagSeconds, st.RetainedWAL = behind, seconds, r.retained
	})
	// A report that was on its way while a copy completed describes the time before it.
	if r.catalog == nil || !r.at.After(l.definedAt) || !l.acquired || l.mark != "" || l.copying != nil {
		return
	}
	if r.unpublished || r.catalog.fingerprint != l.fingerprint {
		l.s.catalog = r.catalog
		l.mark = "the definition of a table or of the publication changed"
	}
}

// released tells the bound of retained log whether the cache takes what is received, and takes in that log was given back (G5): what is missing then, no
// transaction that follows brings.
func (l *leader) released() {
	l.watch.retention.stuck.Store(l.outage || l.acquired && !l.trusted && !l.copying.readable())
	_, discarding := l.receiver.queue.lost()
	if l.gone || !discarding {
		return
	}
	const reason = "log was given back while the cache was away"
	l.gone = true
	l.distrust()
	if l.acquired && l.pending == "" {
		l.mark = reason
	}
	l.r.renewed = reason
	if l.copying.consistentAt() != 0 { // too old by now
		l.copyAbort(0)
	}
}

// distrust holds transactions back until an exact copy has completed.
func (l *leader) distrust() {
	if l.trusted {
		l.trusted, l.fill = false, newFiller(l.s)
	}
	if n := len(l.hand); n > 0 {
		l.floor = max(l.floor, l.hand[n-1].end()) // what is dropped here must be in the copy
		l.hand = nil
	}
	l.idle, l.idleTried = item{}, 0
}
