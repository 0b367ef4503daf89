package flagcache

import (
	"fmt"
	"strconv"
	"time"
)

// The fields of the meta hash. The writer's scripts name them, too.
const (
	MetaSchema          = "schema"
	MetaSystemID        = "system_id"
	MetaTimeline        = "timeline"
	MetaDatabaseOID     = "database_oid"
	MetaSlot            = "slot"
	MetaPublication     = "publication"
	MetaPostmasterStart = "postmaster_start"
	MetaFingerprint     = "fingerprint"
	MetaOwner           = "owner"
	MetaEpoch           = "epoch"
	MetaSeq             = "seq"
	MetaCheckpoint      = "checkpoint"
	MetaCommitTime      = "commit_time"
	MetaHeartbeat       = "heartbeat"
	MetaComplete        = "complete"
	MetaReconcile       = "reconcile"
	MetaReconciling     = "reconciling" // name of the last step of a reconcile that has begun to replace teams; not for readers
	MetaBeat            = "beat"        // ms since 1970 by the clock of Redis: when the leader was last at work, close to its source or not; not for readers
)

// Meta is the cache's account of itself. The zero value is that of an empty Redis.
type Meta struct {
	Schema int // SchemaVersion of the writer

	// The source that the cache mirrors; written when a reconcile completes.
	SystemID        string // pg_control_system().system_identifier
	Timeline        int32
	DatabaseOID     uint32
	Slot            string
	Publication     string
	PostmasterStart int64  // µs since 1970; also written when streaming resumes
	Fingerprint     string // of the table set: see replication

	// Leadership and position.
	Owner      string // random id of the process that leads
	Epoch      int64  // rises at every acquisition of leadership
	Seq        int64  // of the last entry in the stream, within the epoch
	Checkpoint string // LSN as Postgres prints it: every transaction that ends at or before it is in the cache; empty = none
	CommitTime int64  // µs since 1970, of the last transaction at or before Checkpoint; 0 = none yet
	Heartbeat  int64  // ms since 1970 by the clock of Redis (TIME): when the cache was last known to follow the source closely

	Complete  bool   // an exact reconcile has completed and nothing has been lost since: absent means deleted
	Reconcile string // reason why a reconcile is due or under way; empty = none
}

// ParseMeta reads the meta hash. Fields that it does not know are ignored, absent ones stay zero.
func ParseMeta(fields map[string]string) (Meta, error) {
	m := Meta{
		SystemID:    fields[MetaSystemID],
		Slot:        fields[MetaSlot],
		Publication: fields[MetaPublication],
		Fingerprint: fields[MetaFingerprint],
		Owner:       fields[MetaOwner],
		Checkpoint:  fields[MetaCheckpoint],
		Complete:    fields[MetaComplete] == "1",
		Reconcile:   fields[MetaReconcile],
	}
	var firstErr error
	number := func(field string, bits int) int64 {
		text := fields[field]
		if text == "" {
			return 0
		}
		n, err := strconv.ParseInt(text, 10, bits)
		if err != nil && firstErr == nil {
			firstErr = fmt.Errorf("meta field %q: %w", field, err)
		}
		return n
	}
	m.Schema = int(number(MetaSchema, 32))
	m.Timeline = int32(number(MetaTimeline, 32))
	m.DatabaseOID = uint32(number(MetaDatabaseOID, 64))
	m.PostmasterStart = number(MetaPostmasterStart, 64)
	m.Epoch = number(MetaEpoch, 64)
	m.Seq = number(MetaSeq, 64)
	m.CommitTime = number(MetaCommitTime, 64)
	m.Heartbeat = number(MetaHeartbeat, 64)
	return m, firstErr
}

// HeartbeatWithin is how old a heartbeat may be for the cache to count as following its source. Its leader writes one every second.
const HeartbeatWithin = 10 * time.Second

// HeartbeatAge is how long ago the heartbeat was written, by the clock of Redis; now is what TIME answered in the same pipeline.
func (m Meta) HeartbeatAge(now time.Time) time.Duration {
	return now.Sub(time.UnixMilli(m.Heartbeat))
}

// The fields of a stream entry. The writer's scripts name them, too.
const (
	entryTeam    = "team"
	entryVersion = "version"
	entryTime    = "at"
	entryMark    = "mark"
)

// MarkReconciled is the mark of the entry that ends a reconcile.
const MarkReconciled = "reconciled"

// Entry is one entry of the changes stream: a team that changed or is gone (look at its hash), or a mark.
type Entry struct {
	Epoch, Seq int64 // the stream id
	Team       int64 // 0 for a mark
	Version    string
	CommitTime int64 // µs since 1970; 0 if unknown
	Mark       string
}

// ParseEntry reads an entry as XREAD returns it.
func ParseEntry(id string, values map[string]any) (Entry, error) {
	var e Entry
	if n, err := fmt.Sscanf(id, "%d-%d", &e.Epoch, &e.Seq); n != 2 || err != nil {
		return e, fmt.Errorf("stream id %q: want two numbers with a dash between", id)
	}
	text := func(field string) string { s, _ := values[field].(string); return s }
	e.Version, e.Mark = text(entryVersion), text(entryMark)
	var err error
	if s := text(entryTime); s != "" {
		if e.CommitTime, err = strconv.ParseInt(s, 10, 64); err != nil {
			return e, fmt.Errorf("stream entry %s, field %q: %w", id, entryTime, err)
		}
	}
	if e.Mark != "" {
		return e, nil
	}
	if e.Team, err = strconv.ParseInt(text(entryTeam), 10, 64); err != nil {
		return e, fmt.Errorf("stream entry %s, field %q: %w", id, entryTeam, err)
	}
	return e, nil
}
