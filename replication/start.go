package replication

import (
	"fmt"

	"github.com/everflag/everflag/internal/change"
)

// action is what the start of a session comes to.
type action int

const (
	actStream    action = iota // the cache continues where the slot stands
	actReconcile               // the cache must be made equal to the source first
	actRecreate                // the slot is of no use: drop it, create it again, reconcile
	actStandBy                 // somebody else leads
	actRefuse                  // waiting cannot mend it
)

// decision is an action and its reason, for people. verify asks for a verify with repair while streaming.
type decision struct {
	action action
	reason string
	verify bool
}

// slotState is what the source says of our slot.
type slotState struct {
	exists    bool
	plugin    string
	database  string // empty for a physical slot
	activePID int32  // of the walsender that uses it; 0 = none
	lost      string // why it can never be read again; empty if it can
	confirmed change.LSN
}

// judgeSlot decides before the slot is owned. actStream means that it can be taken.
func judgeSlot(slot slotState, database string, walEnd change.LSN) decision {
	switch {
	case !slot.exists:
		return decision{action: actRecreate, reason: "the replication slot is missing"}
	case slot.plugin != outputPlugin || slot.database != database:
		return decision{action: actRefuse, reason: fmt.Sprintf(
			"the replication slot belongs to plugin %q and database %q: choose another name with --slot", slot.plugin, slot.database)}
	case slot.activePID != 0:
		return decision{action: actStandBy, reason: fmt.Sprintf("the replication slot is in use by process %d", slot.activePID)}
	case slot.lost != "":
		return decision{action: actRecreate, reason: "the replication slot is lost: " + slot.lost}
	case slot.confirmed > walEnd:
		return decision{action: actRecreate, reason: fmt.Sprintf(
			"the replication slot has confirmed %s, beyond the end of the log at %s: the source was restored or something else moved the slot", slot.confirmed, walEnd)}
	}
	return decision{action: actStream}
}

// facts is all that the start of a stream depends on. source and walEnd are those of now; confirmed is the slot's position, read after the slot became ours.
type facts struct {
	position          change.Position
	source            change.Source
	schema            int // of the cache, that this program writes; 0 = do not compare
	confirmed, walEnd change.LSN
	allowSourceChange bool
	renewed           string // why the slot was created anew, and no reconcile has completed since; empty if it was found
	unpublished       bool   // the publication does not carry all tables
}

// decideStart is the start switch. It is exhaustive: what no case names streams, and a stream is sound only because every case above it was excluded.
func decideStart(f facts) decision {
	p := f.position
	empty := p.Checkpoint == 0 && p.Teams == 0
	reconcile := func(format string, args ...any) decision {
		return decision{action: actReconcile, reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case f.schema != 0 && p.Schema > f.schema:
		return decision{action: actRefuse, reason: fmt.Sprintf(
			"the cache has schema version %d and this program writes %d: upgrade it or choose another --key-prefix", p.Schema, f.schema)}
	case !empty && p.Source.SystemID != "" && p.Source.SystemID != f.source.SystemID && !f.allowSourceChange:
		return decision{action: actRefuse, reason: fmt.Sprintf(
			"the cache mirrors the Postgres cluster with system identifier %s and this one has %s: confirm with --allow-source-change or choose another --key-prefix",
			p.Source.SystemID, f.source.SystemID)}
	case empty:
		return reconcile("the cache is empty")
	case p.Checkpoint == 0:
		return reconcile("the cache has no checkpoint")
	case p.Source.SystemID != f.source.SystemID:
		return reconcile("the source is another Postgres cluster")
	case f.renewed != "":
		return reconcile("%s", f.renewed)
	case p.Reconcile != "":
		return reconcile("%s", p.Reconcile)
	case !p.Complete:
		return reconcile("the cache is not complete")
	case f.schema != 0 && p.Schema != f.schema:
		return reconcile("the cache has schema version %d", p.Schema)
	case p.Source.Timeline != f.source.Timeline:
		return reconcile("the source is on timeline %d after %d: a failover or a point-in-time recovery", f.source.Timeline, p.Source.Timeline)
	case p.Source.DatabaseOID != f.source.DatabaseOID:
		return reconcile("the source is another database")
	case p.Source.Slot != f.source.Slot || p.Source.Publication != f.source.Publication:
		return reconcile("the cache was filled through slot %q and publication %q", p.Source.Slot, p.Source.Publication)
	case f.unpublished:
		return reconcile("the publication does not carry all tables")
	case p.Source.Fingerprint != f.source.Fingerprint:
		return reconcile("the tables were changed since the cache was filled")
	case p.Checkpoint > f.walEnd:
		return reconcile("the checkpoint %s lies beyond the end of the log at %s: the source was restored from a backup", p.Checkpoint, f.walEnd)
	case p.Checkpoint < f.confirmed:
		return reconcile("the checkpoint %s lies before %s, which the slot has confirmed: the cache lost writes, or log was released", p.Checkpoint, f.confirmed)
	case !p.Source.PostmasterStart.Equal(f.source.PostmasterStart):
		return decision{action: actStream, verify: true, reason: "the Postgres server was restarted"}
	}
	return decision{action: actStream, reason: "the cache continues where the slot stands"}
}
