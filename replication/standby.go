package replication

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// standbyEvery is how often a standby looks at the slot.
const standbyEvery = 500 * time.Millisecond

// standBy waits until the slot may be ours. It returns errAgain when it looks free.
func (s *session) standBy(ctx context.Context, reason string) error {
	s.r.setRole(RoleStandby, reason)
	s.log.Info("standing by", zap.String("reason", reason))
	observer, _ := s.r.sink.(Observer)
	frozen := frozenLeader{after: s.cfg.TakeoverAfter}
	ticker := time.NewTicker(standbyEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case req := <-s.r.requests:
			req.done <- response{err: ErrNotLeading}
			continue
		case <-ctx.Done():
			return ctx.Err()
		}
		slot, end, err := s.look(ctx)
		if err != nil {
			return err
		}
		if judgeSlot(slot, s.server.database, end).action != actStandBy {
			return errAgain
		}
		if observer == nil {
			continue
		}
		seen := s.observeLeader(ctx, observer, slot.activePID)
		s.r.update(func(st *Status) { st.Ready = seen.answers })
		if frozen.observe(seen, time.Now()) {
			if err := s.takeOver(ctx, slot.activePID); err != nil {
				return err
			}
			return errAgain
		}
	}
}

// leaderSigns are the signs of life of the process that owns the slot.
type leaderSigns struct {
	pid     int32
	ours    bool   // another replicator like this one, by its application name
	answers bool   // the cache does: without it, its silence means nothing
	pulse   string // moves when the leader writes to the cache
	reply   string // moves when the leader sends a status to the source
}

func (s *session) observeLeader(ctx context.Context, observer Observer, pid int32) leaderSigns {
	ctx, cancel := step(ctx, standbyEvery*4, "looking at the leader")
	defer cancel()
	signs := leaderSigns{pid: pid}
	err := s.query.QueryRow(ctx, `SELECT application_name = $2, coalesce(reply_time::text, '') FROM pg_stat_replication WHERE pid = $1`,
		pid, s.cfg.ApplicationName).Scan(&signs.ours, &signs.reply)
	if err != nil {
		return leaderSigns{pid: pid} // not visible: nothing may be concluded
	}
	observed, err := observer.Observe(ctx)
	signs.answers, signs.pulse = err == nil, observed.Pulse
	return signs
}

// frozenLeader tells a leader that stands still from one that is busy: for a while neither the cache nor the source heard of it, though both answer.
type frozenLeader struct {
	after time.Duration
	last  leaderSigns
	since time.Time
}

// observe reports whether the leader has to be taken for frozen.
func (f *frozenLeader) observe(signs leaderSigns, now time.Time) bool {
	if signs != f.last || !signs.answers || !signs.ours || f.since.IsZero() {
		f.last, f.since = signs, now
		return false
	}
	return f.after > 0 && now.Sub(f.since) >= f.after
}

// takeOver ends the walsender of a frozen leader. What the leader writes when it wakes is fenced off by the cache.
func (s *session) takeOver(ctx context.Context, pid int32) error {
	s.log.Warn("the leader stands still: taking the slot over", zap.Int32("active_pid", pid), zap.Duration("after", s.cfg.TakeoverAfter))
	ctx, cancel := step(ctx, queryTimeout, "ending the leader's connection")
	defer cancel()
	if _, err := s.query.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE pid = $1 AND application_name = $2",
		pid, s.cfg.ApplicationName); err != nil {
		return fmt.Errorf("ending the connection of a leader that stands still: %w", err)
	}
	return nil
}
