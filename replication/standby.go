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
	s.r.established = true
	if reason != s.r.stoodBy { // a leader that cannot be ended is taken over from in vain, again and again
		s.log.Info("standing by", zap.String("reason", reason))
		s.r.stoodBy = reason
	}
	observer, _ := s.r.sink.(Observer)
	frozen, cutOff := frozenLeader{after: s.cfg.TakeoverAfter}, frozenLeader{after: s.r.rescueAfter()}
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
		s.r.update(func(st *Status) {
			st.Ready, st.looked = seen.answers, time.Now()
			if seen.answers {
				st.LastError, st.ErrorSince = "", time.Time{} // both servers are there
			}
		})
		now := time.Now()
		if frozen.observe(seen, now) {
			return s.takeOver(ctx, slot.activePID, "the leader stands still")
		}
		if cutOff.observe(seen.inCache(), now) {
			if s.try(ctx, observer) == nil {
				s.r.rescues++
				return s.takeOver(ctx, slot.activePID, "the leader does not reach the cache, and this process does")
			}
			cutOff.since = time.Time{} // nobody could do better
		}
	}
}

// A leader that reaches the source and not the cache is taken over from later than one that stands still: it may be busy. Again, it is later each time, until
// this process has written as the leader.
const (
	rescueTimes    = 6 // of TakeoverAfter
	rescueDoubling = 7
)

func (r *Replicator) rescueAfter() time.Duration {
	return rescueTimes * r.cfg.TakeoverAfter << min(r.rescues, rescueDoubling)
}

// try proves that this process could write as the leader.
func (s *session) try(ctx context.Context, observer Observer) error {
	ctx, cancel := step(ctx, standbyEvery*4, "trying to write to the cache")
	defer cancel()
	return observer.Try(ctx)
}

// leaderSigns are the signs of life of the process that owns the slot.
type leaderSigns struct {
	pid      int32
	ours     bool   // another replicator like this one, by its application name
	answers  bool   // the cache does: without it, its silence means nothing
	complete bool   // the cache is: no reconcile keeps the leader busy
	pulse    string // moves when the leader writes to the cache
	reply    string // moves when the leader sends a status to the source
}

// inCache leaves out the signs that the source has, and those of a cache that is being reconciled.
func (l leaderSigns) inCache() leaderSigns {
	l.reply, l.answers = "", l.answers && l.complete
	return l
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
	signs.answers, signs.complete, signs.pulse = err == nil, observed.Complete, observed.Pulse
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

// freeWithin is how long a walsender is given to end. The next session has to be there before the former leader.
const freeWithin = time.Second

// takeOver ends the walsender of the leader and returns errAgain. What the leader writes later is fenced off by the cache.
func (s *session) takeOver(ctx context.Context, pid int32, why string) error {
	if pid != s.r.ended {
		s.log.Warn(why+": taking the slot over", zap.Int32("active_pid", pid))
		s.r.ended = pid
	}
	stepCtx, cancel := step(ctx, queryTimeout, "ending the leader's connection")
	defer cancel()
	if _, err := s.query.Exec(stepCtx, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE pid = $1 AND application_name = $2",
		pid, s.cfg.ApplicationName); err != nil {
		return fmt.Errorf("ending the connection of the leader: %w", err)
	}
	freeCtx, cancelFree := step(ctx, freeWithin, "waiting for the slot")
	defer cancelFree()
	_ = pollUntil(freeCtx, 10*time.Millisecond, func() (bool, error) { // whatever comes of it, the next session looks for itself
		slot, _, err := s.look(freeCtx)
		return slot.activePID != pid, err
	})
	return errAgain
}
