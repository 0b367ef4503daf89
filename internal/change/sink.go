package change

import (
	"errors"
	"iter"
	"time"
)

// Source identifies what a cache mirrors. A cache that was filled from another Source cannot be resumed.
type Source struct {
	SystemID        string // pg_control_system().system_identifier
	Timeline        int32
	DatabaseOID     uint32
	PostmasterStart time.Time // µs precision
	Slot            string
	Publication     string
	Fingerprint     string // of the declared tables: see catalog.go
}

// Position is what a cache says of itself.
type Position struct {
	Source     Source // zero if no reconcile has ever completed
	Schema     int    // cache schema version; 0 if the cache is empty
	Checkpoint LSN    // every transaction that ends at or before it is in the cache; 0 = none
	Complete   bool   // an exact reconcile has completed and nothing was lost since
	Reconcile  string // reason of a due or unfinished reconcile; empty = none
	Teams      int    // number of teams; 0 with Checkpoint 0 means an empty cache
}

// Batch is a run of transactions in commit order. With no transactions it only moves the checkpoint.
type Batch struct {
	Txs     []*Tx
	Through LSN // the checkpoint after the batch: EndLSN of the last transaction, or a later position with nothing between
}

// Copy is a consistent copy of the source.
type Copy struct {
	Source Source
	At     LSN    // an exact copy holds exactly the transactions that end at or before it
	Exact  bool   // false: a provisional fill, which sets no checkpoint and clears no marker
	Reason string // why, for people
	Teams  iter.Seq2[TeamRows, error]
}

// ErrFenced is returned by every method of Sink but Acquire when the cache is no longer as this process last wrote it: somebody else leads, or Redis was
// flushed, restored, failed over or swapped. The only answer is to start again with Acquire.
var ErrFenced = errors.New("the cache is no longer ours: owner, epoch or checkpoint differ")

// ReconcileResult counts what a reconcile did.
type ReconcileResult struct {
	Teams, Rows             int // in the copy
	TeamsWritten, TeamsGone int
}

// Difference is one record in which cache and source differ.
type Difference struct {
	Team   int64
	Entity string // or "token", or "version"
	Key    string
	Detail string // what differs, without values of secrets

	// State stands for what was compared, on both sides: it is another one if either has changed meanwhile. 0 = not known.
	State uint64
}

// Observation is what a cache says of itself to somebody who does not lead.
type Observation struct {
	Position

	// Pulse differs between two observations if a leader wrote anything in between: it covers owner, epoch, seq, checkpoint and heartbeat. Beat moves it
	// every second, fresh or not, and so does a Reconcile that is under way.
	Pulse string
}
