package replication

import (
	"context"

	"github.com/everflag/everflag/internal/change"
)

// Sink is what replication asks of a cache. One goroutine calls it, but for Compare, which runs beside. Every method may be called again after an error
// other than change.ErrFenced, with the same arguments, also when the failed call did take effect. Errors that waiting cannot mend satisfy Permanent.
type Sink interface {
	// Acquire fences every process that wrote before, and only then reads the position and loads what deletes and moves need.
	Acquire(ctx context.Context) (change.Position, error)

	// Confirm records the source that the cache was found to mirror when streaming resumes or a verify ends clean.
	Confirm(ctx context.Context, source change.Source) error

	// Beat checks that the cache is still ours. If fresh, it also writes the heartbeat, which tells readers that the cache follows its source closely.
	Beat(ctx context.Context, fresh bool) error

	// Apply makes a batch visible together with its checkpoint; nil means that the cache has confirmed it. A batch that is already there is a no-op. A
	// transaction with a Reconcile reason, and a change that needs a record the cache lacks, set the reconcile marker in the same step: pending is the
	// marker after the batch.
	Apply(ctx context.Context, batch change.Batch) (pending string, err error)

	// Mark sets the reconcile marker.
	Mark(ctx context.Context, reason string) error

	// Reconcile makes the cache equal to the copy, in place, team by team; teams that are equal are not written. An exact copy's last step sets the
	// checkpoint and the source, declares the cache complete and clears the marker.
	Reconcile(ctx context.Context, c change.Copy) (change.ReconcileResult, error)

	// Compare reports the teams whose records differ from the copy; it writes nothing and needs no leadership.
	Compare(ctx context.Context, c change.Copy) ([]change.Difference, error)
}

// Observer is what may be asked of a cache at any time, by any goroutine and without leadership. With a Sink that is no Observer, a standby never takes
// over from a frozen leader, only once the slot is free.
type Observer interface {
	// Observe reads what the cache says of itself. It writes nothing, and fails while the cache does not answer.
	Observe(ctx context.Context) (change.Observation, error)

	// Try fails where the writes of a leader would. It leaves nothing behind.
	Try(ctx context.Context) error
}
