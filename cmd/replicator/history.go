package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/logging"
	"github.com/everflag/everflag/replication"
)

const (
	historyEvery  = time.Second
	historyLength = int(time.Hour / historyEvery)
	turnsLength   = 30
)

// history remembers the last hour, second by second, and the last turns of state. It is safe for concurrent use.
type history struct {
	mu      sync.Mutex
	moments []moment // oldest first
	turns   []turn   // oldest first
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
	Why   string // if not ready
}

// follow looks at the status every second until the context ends.
func (h *history) follow(ctx context.Context, status func() replication.Status) error {
	ticker := time.NewTicker(historyEvery)
	defer ticker.Stop()
	for {
		h.note(status(), time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (h *history) note(status replication.Status, now time.Time) {
	m := moment{at: now, ready: status.Ready, leads: status.Role == replication.RoleLeader, lag: -1, retained: status.RetainedWAL}
	if status.LagSeconds >= 0 {
		m.lag = time.Duration(status.LagSeconds * float64(time.Second))
	}
	m.position, _ = change.ParseLSN(status.Checkpoint) // empty before there is one, which is zero
	t := turn{At: now, Role: status.Role, Ready: true}
	if err := ready(status); err != nil {
		t.Ready, t.Why = false, logging.Redact(err.Error())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.moments) == historyLength {
		h.moments = slices.Delete(h.moments, 0, historyLength/10) // a few at a time, so that they seldom move
	}
	h.moments = append(h.moments, m)
	if n := len(h.turns); n > 0 && h.turns[n-1].Role == t.Role && h.turns[n-1].Ready == t.Ready && h.turns[n-1].Why == t.Why {
		return
	}
	if len(h.turns) == turnsLength {
		h.turns = slices.Delete(h.turns, 0, 1)
	}
	h.turns = append(h.turns, t)
}

// last returns copies, the moments oldest first and the turns newest first.
func (h *history) last() ([]moment, []turn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	turns := slices.Clone(h.turns)
	slices.Reverse(turns)
	return slices.Clone(h.moments), turns
}
