package replication

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/killpoint"
)

// apply takes one batch from the queue and applies it.
func (l *leader) apply(ctx context.Context) error {
	if len(l.hand) == 0 {
		through := ^change.LSN(0)
		if l.copying.holds() {
			through = l.copying.at
		}
		l.hand = l.receiver.queue.take(l.cfg.BatchTxs, l.cfg.BatchBytes, through)
	}
	if len(l.hand) == 0 {
		return nil
	}
	return l.applyHand(ctx)
}

// applyHand applies the batch in hand. It stays in hand until the sink has confirmed it, so that nothing overtakes it (F6).
func (l *leader) applyHand(ctx context.Context) error {
	batch := l.batch()
	if len(batch.Txs) == 0 {
		l.hand = nil
		return l.idleCheckpoint(ctx, time.Now())
	}
	killpoint.Hit(killpoint.Apply)
	pending, err := l.sink.Apply(ctx, batch)
	if err != nil {
		return l.failed(err)
	}
	killpoint.Hit(killpoint.Apply)
	l.recovered()
	// A crash here leaves the slot behind the checkpoint: what comes again is dropped by its position.
	l.moved(batch.Through, l.hand[len(l.hand)-1].urgent)
	l.count(batch)
	defer func() { l.hand = nil }()
	if pending != l.pending || hasReconcile(batch) {
		// Some transaction could not be applied row by row. What follows it must not be either: it would show a mixture.
		l.distrust()
		l.due(pending)
	}
	return nil
}

// batch collects what the sink does not have yet, up to a transaction that ends in a reconcile.
func (l *leader) batch() change.Batch {
	var b change.Batch
	for _, i := range l.hand {
		if i.end() <= l.checkpoint {
			continue
		}
		if i.tx == nil {
			i.urgent = i.urgent || l.idle.urgent
			l.idle = i
			if len(b.Txs) > 0 && l.pending == "" {
				b.Through = i.position
			}
			continue
		}
		if reason := l.redefined(i.layouts); reason != "" && i.tx.Reconcile == "" {
			i.tx.Reconcile, i.tx.Changes = reason, nil
		}
		b.Txs = append(b.Txs, i.tx)
		b.Through = i.tx.EndLSN
		if i.tx.Reconcile != "" {
			break // nothing is lost: the reconcile that this calls for covers the rest
		}
	}
	return b
}

// redefined compares the definitions that the stream announces with those that the cache reflects.
func (l *leader) redefined(layouts []*layout) string {
	for _, announced := range layouts {
		if l.layouts[announced.binding] != announced.signature {
			return fmt.Sprintf("the definition of table %s changed", announced.binding.table.Name)
		}
	}
	return ""
}

func hasReconcile(b change.Batch) bool {
	return len(b.Txs) > 0 && b.Txs[len(b.Txs)-1].Reconcile != ""
}

// moved notes that the cache has confirmed everything up to the position.
func (l *leader) moved(position change.LSN, urgent bool) {
	l.checkpoint, l.checkpointM, l.idleTried = position, time.Now(), 0 // whatever failed before has been settled
	if l.idle.position <= position {
		l.idle = item{}
	}
	l.receiver.confirm(position, urgent)
	l.reach(position)
}

// reach notes that the cache is as of the position, whether that is written already or not.
func (l *leader) reach(position change.LSN) {
	l.lag.reach(position)
	l.reached.Store(uint64(position))
}

// idleCheckpoint moves the checkpoint to a position up to which nothing concerned us, so that the log of other tables is released (F12): now and then, or
// at once if the server waits for it. While a reconcile is due it stays.
func (l *leader) idleCheckpoint(ctx context.Context, now time.Time) error {
	if l.idle.position == 0 || !l.trusted || l.pending != "" || l.mark != "" || len(l.hand) > 0 || l.copying.holds() {
		return nil
	}
	l.reach(l.idle.position)
	if !l.idle.urgent && now.Sub(l.checkpointM) < l.cfg.IdleEvery {
		return nil
	}
	position := cmp.Or(l.idleTried, l.idle.position)
	pending, err := l.sink.Apply(ctx, change.Batch{Through: position})
	if err != nil {
		l.idleTried = position
		return l.failed(err)
	}
	l.recovered()
	l.moved(position, l.idle.urgent)
	if pending != "" {
		l.distrust()
		l.due(pending)
	}
	return nil
}

func (l *leader) count(b change.Batch) {
	rows := 0
	for _, tx := range b.Txs {
		rows += len(tx.Changes)
	}
	l.r.metrics.transactions.Add(float64(len(b.Txs)))
	l.r.metrics.rows.Add(float64(rows))
	committed := b.Txs[len(b.Txs)-1].CommitTime
	l.r.update(func(st *Status) { st.CommitTime = committed })
}

// drain applies what was received when the connection ended, so that the cache is as new as it can be while the server is away. Somebody who took over
// meanwhile has fenced us.
func (l *leader) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	for l.readable() != nil && ctx.Err() == nil && !(l.receiver.queue.empty() && len(l.hand) == 0) {
		if err := l.apply(ctx); err != nil {
			break
		}
	}
	if l.receiver.err != nil {
		return l.receiver.err
	}
	select {
	case err := <-l.watch.failed: // the watcher hung up, and says why
		return err
	default:
		return errSessionEnded
	}
}
