package main

import (
	"time"

	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/admin/pages"
	"github.com/everflag/everflag/internal/logging"
)

const (
	historyEvery = time.Second
	turnsLength  = 8 // that the first page has room for, above the teams
)

// history remembers the last turns of state. One goroutine notes them, any may read them.
type history struct{ turns pages.Recent[turn] }

// turn is a change of state.
type turn struct {
	At          time.Time
	State, Mood string
	Why         string

	owner string // who wrote the cache
}

// note adds a turn if the state is another one than before, or another replicator writes the cache.
func (h *history) note(status store.Status, now time.Time) {
	v := indexView{Status: status, Now: now}
	t := turn{At: now, State: v.State(), Mood: v.Mood(), owner: status.Owner}
	switch {
	case status.Error != "":
		t.Why = logging.Redact(status.Error)
	case status.Source == store.OriginRedis && status.AgeSeconds > 0:
		t.State, t.Mood, t.Why = "following Redis, not fresh", "warn", "no replicator confirms that the cache follows Postgres"
	case status.Source == store.OriginRedis && status.Reconcile != "":
		t.State, t.Mood, t.Why = "following Redis, being reconciled", "warn", status.Reconcile
	}
	if past := h.turns.All(); len(past) > 0 {
		last := past[0]
		if t.Why != "" { // another owner is told of when there is room
			t.owner = last.owner
		}
		if last.State == t.State && last.owner == t.owner {
			return
		}
		if t.owner != last.owner && t.owner != "" {
			t.Why = "the cache is written by " + t.owner
		}
	}
	h.turns.Add(t, turnsLength)
}

// last returns the turns, the newest first.
func (h *history) last() []turn { return h.turns.All() }
