package main

import (
	"slices"
	"sync"
	"time"

	"github.com/everflag/everflag/internal/admin/pages"
	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/logging"
	"github.com/everflag/everflag/replication"
)

const (
	historyEvery  = time.Second
	historyLength = int(time.Hour / historyEvery)
	turnsLength   = 30
)

// history remembers the last hour, second by second, and the last turns of state. One goroutine notes them, any may read them.
type history struct {
	turns pages.Recent[turn]

	mu      sync.Mutex // guards what follows
	moments []moment   // oldest first
}

// moment is what a chart shows of one second.
type moment struct {
	at       time.Time
	ready    bool
	leads    bool          // else the rest is not known
	lag      time.Duration // -1 = not known
	retained int64
	position change.LSN
}

// turn is a change of state.
type turn struct {
	At    time.Time
	Role  replication.Role
	Ready bool
	Why   string // why it is not ready, or whom it stands by for

	TakenOver bool // from another replicator
}

// note adds a moment, and a turn if something is another than before.
func (h *history) note(status replication.Status, now time.Time) {
	lag := time.Duration(-1)
	if status.LagSeconds >= 0 {
		lag = time.Duration(status.LagSeconds * float64(time.Second))
	}
	position, _ := change.ParseLSN(status.Checkpoint) // empty before there is one, which is zero
	h.keep(moment{at: now, ready: status.Ready, leads: status.Role == replication.RoleLeader, lag: lag, retained: status.RetainedWAL, position: position})
	t := turn{At: now, Role: status.Role, Ready: true}
	if status.Role == replication.RoleStandby {
		t.Why = status.Detail // another process in it is another leader
	}
	if err := ready(status); err != nil {
		t.Ready, t.Why = false, logging.Redact(err.Error())
	}
	if past := h.turns.All(); len(past) > 0 {
		last := past[0]
		if last.Role == t.Role && last.Ready == t.Ready && last.Why == t.Why {
			return
		}
		t.TakenOver = t.Role == replication.RoleLeader && last.Role != t.Role && stoodBy(past)
	}
	h.turns.Add(t, turnsLength)
}

func (h *history) keep(m moment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.moments) == historyLength {
		h.moments = slices.Delete(h.moments, 0, historyLength/10) // a few at a time, so that they seldom move
	}
	h.moments = append(h.moments, m)
}

// stoodBy says whether this replicator stood by before it connected. Turns are the newest first.
func stoodBy(turns []turn) bool {
	for _, t := range turns {
		if t.Role != replication.RoleConnecting {
			return t.Role == replication.RoleStandby
		}
	}
	return false
}

// last returns copies, the moments oldest first and the turns newest first.
func (h *history) last() ([]moment, []turn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.moments), h.turns.All()
}
