package replication

import (
	"context"
	"sync/atomic"

	"github.com/everflag/everflag/internal/change"
)

// A transaction that is too large to be applied row by row ends in a reconcile, and the end of a million rows is far away when its size is known. It is
// committed by then, or the server would not send it, so that every copy whose point lies behind its commit holds it. The reconcile therefore begins at once.
//
// This gains time and promises nothing. What is set is a marker as a rebuild sets it: the checkpoint stays, and what came before the transaction is still
// applied row by row. Only the transaction's end moves the checkpoint past it, together with the marker, or else the end of a copy that holds it.
type oversized struct {
	commit change.LSN // start of its commit record
	reason string
}

// foresight is what the receiver tells of a transaction that is too large while it is still being received, and what it is told in return.
type foresight struct {
	found    chan oversized // holds one
	underway atomic.Uint64  // commit position of the transaction; 0 = none
	covered  atomic.Uint64  // point of the copy that is being read; 0 = none is
}

// foresee looks at the transaction under way.
func (v *receiver) foresee() {
	tx := v.assembler.oversized()
	if tx == nil {
		v.foresight.underway.Store(0)
		return
	}
	if v.foresight.underway.Swap(uint64(tx.CommitLSN)) == uint64(tx.CommitLSN) {
		return
	}
	select {
	case <-v.foresight.found: // a former one, which has ended
	default:
	}
	v.foresight.found <- oversized{commit: tx.CommitLSN, reason: tx.Reconcile}
}

// rest leaves the transaction under way unread while a copy of that point is read, if the copy holds it: its rows would be received only to be dropped, and
// the server and this program have better things to do. Zero ends it.
func (v *receiver) rest(point change.LSN) {
	v.foresight.covered.Store(uint64(point))
	v.wake()
}

// resting reports whether nothing may be received now. Log that has to be given back is received in any case.
func (v *receiver) resting() bool {
	underway := v.foresight.underway.Load()
	if underway == 0 || underway >= v.foresight.covered.Load() {
		return false
	}
	_, discarding := v.queue.lost()
	return !discarding
}

// passing reports whether the stream can only pass the point by receiving a transaction that a copy of that point holds.
func (v *receiver) passing(point change.LSN) bool {
	underway := v.foresight.underway.Load()
	return underway != 0 && underway < uint64(point) && v.queue.empty()
}

// foresee begins the reconcile that a transaction calls for whose end is yet to come.
func (l *leader) foresee(ctx context.Context, tx oversized) error {
	if !l.acquired || l.outage || !l.trusted || l.pending != "" || l.mark != "" || tx.commit < l.checkpoint {
		return nil // a copy is due in any case, or has been made
	}
	l.mark = tx.reason
	return l.setMark(ctx)
}
