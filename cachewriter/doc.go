// Package cachewriter guarantees that Redis holds what the source held at the checkpoint, whole transactions only and never backwards, or says in Redis
// itself that it may not.
//
// # Authority
//
// The source is the authority, always. The cache is a copy with an account of itself, the meta hash (flagcache.Meta), and every doubt about the copy is
// written into that account in the same step that causes it: the reconcile marker. A marker is cleared by nothing but an exact reconcile.
//
// # Ownership
//
// One process leads. Acquire raises the epoch and writes a random owner id in one script; it is the first thing a leader does, before it reads
// anything. Every later script compares, inside Redis, three values with its own:
//
//	owner       another process has acquired             ─┐
//	epoch       the same process has, in another life     ├─ differ: nothing is written, change.ErrFenced
//	checkpoint  Redis was flushed, restored, failed over ─┘
//
// The steps of a reconcile do not move the checkpoint. Each has a name instead, which it writes, and asks for that of the step before: a cache that has lost
// one, or got one that came late, turns the next one down.
//
// A former leader that was frozen for an hour and wakes with a batch in its socket therefore changes nothing. An epoch is unix milliseconds or the
// former epoch plus one, whichever is greater, so it rises also when the meta hash was lost.
//
// # One batch, one script
//
// A batch becomes its net effect per team (plan.go, pure) and goes to Redis as one script (lua/apply.lua). The script checks all that can fail, the types
// of the keys included, then writes teams, tokens, versions, stream entries, and the checkpoint last. Lua adds no rollback: an error in the middle would
// leave the writes before it, so there is none that can happen there; memory limits and read-only replicas refuse the first write of a script or none.
// Records are compared inside the script, which makes an update of unserved columns cost one round trip and no write but the checkpoint's.
//
// A reconcile brings teams of which the cache has nothing by way of keys that nobody reads (stage.go): the script renames them. Until it has, they do not
// count, and who has written them does not matter.
//
// A reply may be lost after the script ran. The same batch is then planned no second time (its reads would see its own writes) but sent again, and
// the script finds its checkpoint there: "present".
//
// # States of the cache
//
//	                 Acquire                    exact Reconcile
//	empty ──────────────▶ led, no checkpoint ──────────────────▶ complete ◀─────────────┐
//	                          │ provisional fill                  │ Tx.Reconcile, Mark, │ exact Reconcile
//	                          ▼                                   ▼ a missing record    │
//	                      reconciling ◀── first team replaced ── marked ────────────────┘
//
// complete: what is absent from the cache is absent from the source as of the checkpoint. Readers may call a token unknown only then. A set marker ends
// it.
//
// marked: something is missing; the rest goes on following the stream, because old answers for one team are no reason for old answers for all.
//
// reconciling: some teams are already as of the copy, others as of the checkpoint. Transactions between the two would take the first kind backwards, so
// from the first team that a reconcile replaces until an exact one completes, Apply moves only the checkpoint. The marker stands for what it leaves out.
//
// # Failures
//
//	reply lost                   the same batch again; present is success
//	crash before the script      the checkpoint is the old one: the transactions come again
//	crash after the script       the checkpoint is the new one: they are dropped by position
//	crash within a reconcile     marker and "reconciling" are set: the next leader reconciles; what was staged expires
//	a staged team lost records   ErrFenced: Redis has lost what it had confirmed
//	FLUSHALL, old backup,        owner, epoch or checkpoint differ: ErrFenced, and Acquire tells what is there now
//	failover to a lagging replica
//	key of a foreign type        nothing is written, the error names the key; it is retried until someone has removed the key
//	key removed or rewritten     found when its team changes next (its version is not the listed one), or by Compare
//	out of memory                nothing is written; retried
//
// What Redis has confirmed can still be lost: with replication that is asynchronous, by a failover; with appendfsync everysec, by a power failure. Both show
// as a checkpoint behind the position that the source has seen confirmed, and end in a reconcile. Config.WaitReplicas narrows the first.
package cachewriter
