package replication

import (
	"time"
)

// Role is what a replicator is doing.
type Role string

// The roles.
const (
	RoleConnecting Role = "connecting" // no session with the source
	RoleStandby    Role = "standby"    // another replicator leads
	RoleLeader     Role = "leader"     // owns the slot
)

// Status is what a replicator can say of itself at any time.
type Status struct {
	Role       Role      `json:"role"`
	Since      time.Time `json:"since"` // of the role
	Ready      bool      `json:"ready"` // streams closely behind the source, or stands by with source and cache reachable
	Detail     string    `json:"detail,omitempty"`
	LastError  string    `json:"last_error,omitempty"`
	ErrorSince time.Time `json:"error_since,omitzero"`

	SystemID    string `json:"system_id,omitempty"`
	Timeline    int32  `json:"timeline,omitempty"`
	Database    string `json:"database,omitempty"`
	Slot        string `json:"slot"`
	Publication string `json:"publication"`

	Checkpoint   string    `json:"checkpoint,omitempty"`   // the cache holds everything up to it
	Acknowledged string    `json:"acknowledged,omitempty"` // what the slot was told
	WALEnd       string    `json:"wal_end,omitempty"`
	LagBytes     int64     `json:"lag_bytes"`
	LagSeconds   float64   `json:"lag_seconds"` // -1 = not known
	RetainedWAL  int64     `json:"retained_wal_bytes"`
	CommitTime   time.Time `json:"commit_time,omitzero"` // of the last transaction in the cache
	Released     bool      `json:"released,omitempty"`   // log is given back unread, because the cache is away
	CacheError   string    `json:"cache_error,omitempty"`

	looked time.Time // when Ready was found to be so

	Reconcile  *ReconcileStatus `json:"reconcile,omitempty"` // due or under way
	Reconciled *ReconcileReport `json:"reconciled,omitempty"`
	Verify     *VerifyReport    `json:"verify,omitempty"` // the last one
}

// ReconcileStatus is how far a reconcile has come.
type ReconcileStatus struct {
	Reason           string    `json:"reason"`
	Since            time.Time `json:"since"`
	Stage            string    `json:"stage"` // "waiting", "snapshot" or "copying"
	Waiting          string    `json:"waiting,omitempty"`
	ProvisionalSince time.Time `json:"provisional_since,omitzero"`
	Teams            int64     `json:"teams"`
	Rows             int64     `json:"rows"`
	RowsTotal        int64     `json:"rows_total"` // an estimate
}

// ReconcileReport is how a reconcile went.
type ReconcileReport struct {
	Reason       string        `json:"reason"`
	At           string        `json:"at"`
	Finished     time.Time     `json:"finished"`
	Took         time.Duration `json:"took"`
	Teams        int           `json:"teams"`
	Rows         int           `json:"rows"`
	TeamsWritten int           `json:"teams_written"`
	TeamsGone    int           `json:"teams_gone"`
}

// The stages of a reconcile.
const (
	stageWaiting  = "waiting"
	stageSnapshot = "snapshot"
	stageCopying  = "copying"
)

// Status returns a copy.
func (r *Replicator) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := r.status
	if time.Since(status.looked) >= freshWithin { // a server that hangs holds up whoever looks
		status.Ready = false
	}
	if status.Reconcile != nil {
		status.Reconcile = new(*status.Reconcile)
		status.Reconcile.Teams, status.Reconcile.Rows = r.copiedTeams.Load(), r.copiedRows.Load()
	}
	return status
}

// update changes the status. What pointers lead to is replaced, never changed.
func (r *Replicator) update(change func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

func (r *Replicator) setRole(role Role, detail string) {
	r.update(func(s *Status) {
		if s.Role != role {
			s.Since = time.Now()
		}
		s.Role, s.Detail, s.Ready = role, detail, false
		if role == RoleStandby { // what it knew as a leader is the other one's to know
			s.Reconcile, s.CacheError, s.Released = nil, "", false
			s.LagBytes, s.LagSeconds, s.RetainedWAL = 0, -1, 0
		}
	})
	r.metrics.role(role)
}

// updateReconcile changes the progress of a reconcile that is due or under way.
func (r *Replicator) updateReconcile(change func(*ReconcileStatus)) {
	r.update(func(s *Status) {
		if s.Reconcile != nil {
			changed := *s.Reconcile
			change(&changed)
			s.Reconcile = &changed
		}
	})
}
