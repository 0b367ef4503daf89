// Package replication guarantees that a cache, its Sink, is given every committed change of the declared tables in Postgres exactly once, whole
// transactions in commit order, or else a consistent copy of the tables, and that Postgres is told of a position only after the cache holds it.
//
// # Authority
//
// The tables are the truth. The replication slot is the lock: whoever holds it leads (G3). The cache's checkpoint is the position: a transaction that ends at
// or before it is in the cache, all others are not. The slot's confirmed position is only a promise not to ask for older log again; if it lies beyond the
// checkpoint, the cache has lost something.
//
// # A session
//
//	connect ─▶ slot missing or lost ─▶ lead in the cache, mark it, create the slot ─┐
//	   ▲  │                                                                       │
//	   │  ├────▶ slot in use ─▶ stand by, take over from a frozen leader          │
//	   │  ▼                                                                       │
//	   │ own the slot (START_REPLICATION at 0/0) ◀────────────────────────────────┘
//	   │  ▼
//	   │ lead in the cache (Acquire fences everybody before), then decideStart:
//	   │  ├─▶ stream ───────────────▶ apply ◀──────────────┐
//	   │  └─▶ reconcile ─▶ mark ─▶ exact copy at C ─▶ apply what ends after C
//	   │                                │
//	   └──────── any error ◀────────────┴── a marker that any trigger has set
//
// Three goroutines make a session, and share channels and atomics only. The receiver owns the replication connection: it receives, queues and sends statuses,
// so that the server hears from us however slow the cache is. The leader owns the Sink. The watcher looks at the source through an ordinary connection: at
// what the stream does not report, such as ALTER TABLE, and at what others make of our connection.
//
// # Trust
//
// The leader applies transactions row by row while it trusts the cache to hold everything up to the checkpoint. A transaction that it cannot apply row by
// row (TRUNCATE, a redefined table, too large) only sets the cache's reconcile marker, in the same step as its checkpoint. From then on the following
// transactions are held back until an exact copy has replaced the teams that differ, since they would show a mixture. The same holds after a copy that
// broke off half-way and after log was given back. A marker that somebody sets from outside (rebuild, drift, a table redefined without a trace in the
// stream) leaves the cache trusted: rows go on being applied until the copy's point is known.
//
// A large transaction is told of while it is still being received (oversized.go). It is committed by then, so that its reconcile begins at once, as one that
// somebody asks for: the marker is set, the checkpoint stays, and a copy whose point lies behind the commit holds it. While that copy is read, the rest of the
// transaction is left unread. If there is no such copy when the transaction ends, it is treated like any other that cannot be applied.
//
// # What a failure does
//
//   - Postgres does not answer, restarts or fails over: what was received is still applied, then the session is tried again for ever, quietly.
//   - The cache does not answer: transactions wait, first in memory, then in the source's log. Beyond MaxRetainedWAL the log is given back, and
//     the next start finds the checkpoint before the confirmed position and reconciles.
//   - The cache says ErrFenced: somebody else leads or the cache is another one. The session ends, and the next one looks at everything anew.
//   - This process dies: at any point the slot is behind the checkpoint or equal to it, or the marker is set.
//   - This process freezes: a standby ends its walsender; when it wakes up, the cache turns its writes away.
//   - This process alone does not reach the cache: a standby that does ends its walsender, too, only later.
//   - Something that waiting cannot mend: Run returns an error that satisfies Permanent and names the remedy.
//
// A copy takes its position from a temporary slot, because nothing else names a position and a snapshot that belong together (F1), and reads no table until
// every transaction that the snapshot counts as committed has really ended, because reading earlier damages the source (F77).
package replication
