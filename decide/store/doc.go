// Package store serves every team's flags from memory, whatever happens to Redis, Postgres or the replicator: a request does no I/O, sees a team whole or
// not at all, and is told that a token belongs to no team only if that is certain.
//
// # Who is right
//
// Meta is right, the stream is a hint. The follower blocks on the stream for speed, and polls meta once a second for truth:
//
//	          poll: owner, epoch, seq, complete, heartbeat
//	               │
//	  ┌────────────┼───────────────────────┐
//	follow     revalidate                 wait
//	  │            │                       │
//	entries     compare all versions     no cache, or one of a newer schema:
//	name teams, read what differs,       keep what is served
//	re-read     drop what is gone
//
// It revalidates when owner or epoch differ from those it read before, when an entry skips a number, when the stream does not bring what meta counts, when
// a reconcile ends, and when meta goes back; and once more if it was interrupted, since meta then is that of a cache of which half has been read. Versions
// are compared for equality: after a failover or a restored backup the newer data may well have the smaller number.
//
// # What an absence means
//
// A team that the stream names and the cache lacks is gone: the leader has written that entry when it took the team away. A team that only a scan misses
// is gone if the cache is complete, no reconcile is due, and a second look, in one transaction with meta, agrees. Otherwise it stays as it was, and is
// looked at again once the cache is settled. Thus an empty or half-filled cache never replaces a full view, and a deleted team is gone at once.
//
// For a request, [decide.Absent] further asks that the view is all of this owner's cache in this epoch, that meta was polled within 5 s, and that the
// heartbeat, by the clock of Redis, is younger than 10 s. One that is still to come says nothing, unless it has changed since the poll before. Nothing is
// called absent because of the snapshot file alone.
//
// # When the cache goes back
//
// A Redis that restarts with data of a while ago, or a lagging replica that takes over, has lost what was served already: its seq or its checkpoint are
// below ours. Until a writer has written a heartbeat over that and no reconcile is due, the view takes from it only what is new, by the order of versions
// (the only place where the order counts), and drops nothing. If the replicator is gone as well, what is served stays the newest that is known.
//
// # Consistency
//
// Teams that changed are read in one MULTI together with meta and with the holders of the tokens that they had; if tokens moved between teams, the others
// are read, too, until all agree. The view is an immutable map that is replaced at once, so that a swap of two tokens is seen done or not begun.
//
// # Failures
//
// An error of Redis costs one line when it begins and one when it ends; in between the follower tries again, every 300 ms or sooner. Every step has a
// deadline, so that a connection that died in silence is noticed within two seconds. A team whose records are not readable is served as it was, and no
// absence is certain until it is readable again, or gone. The snapshot file is written beside, under a name of its own, and renamed; one that is damaged,
// foreign or of a newer format is reported and ignored.
//
// # Memory
//
// Records stay packed, a few hundred bytes per team. Programs are compiled by the first request, the others wait for the result; for teams in use, a change
// is compiled before it is served. Past the limit, programs that were not used for longest are dropped.
//
// # Rights
//
// decide needs no more than this user (in a Cluster also +cluster|slots +cluster|shards +readonly):
//
//	ACL SETUSER decide on >password resetkeys %R~{everflag}:* resetchannels
//	    -@all +hgetall +hmget +hscan +xread +time +multi +exec +ping +hello +select +client|setname
package store
