package replication

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

// retention bounds the log that the server retains for our slot (G5). It belongs to the watcher and not to the leader, whom a cache that hangs holds up.
//
// The server keeps log from the slot's restart position on. That one follows what we confirm, but it jumps only to where the server noted the running
// transactions: at checkpoints, and every 15 s by itself. Up to there the log is retained without our doing, so that it counts, and so that a note is
// asked for when it grows. Everything happens at shares of the limit, since log goes on arriving until a measure takes effect.
type retention struct {
	limit    int64 // 0 = none
	receiver *receiver
	metrics  *metrics
	status   func(func(*Status))
	log      *zap.Logger

	stuck atomic.Bool // set by the leader: the cache does not take what is received, or must not

	// Owned by the watcher.
	last    report
	noteDue time.Time
	pause   time.Duration // until the next note
}

// How often the server is asked for a note of the running transactions: ever more seldom while it does not help, as beside a long transaction.
const (
	noteMin     = 300 * time.Millisecond
	noteMax     = time.Minute
	noteTimeout = 100 * time.Millisecond // by then the note is in the log, and what the creation of a slot waits for does not matter
)

// interval is the time until the next look: shorter when much is retained.
func (k *retention) interval() time.Duration {
	if k.limit > 0 && k.last.retained >= k.limit/4 {
		return sampleClosely
	}
	return sampleEvery
}

// bound looks at how much is retained. It gives log back while nothing can be applied: no checkpoint moves, so that any later start finds the checkpoint
// before the confirmed position and reconciles.
func (k *retention) bound(ctx context.Context, conn *pgx.Conn, slot string, r report) {
	last := k.last
	k.last = r
	if k.limit == 0 {
		return
	}
	grown := int64(0) // what may come until the next look
	if last.walEnd != 0 {
		grown = max(0, int64(r.walEnd)-int64(last.walEnd))
	}
	k.receiver.hurried.Store(r.retained+grown >= k.limit/2)
	_, discarding := k.receiver.queue.lost()
	k.status(func(st *Status) { st.Released = discarding })
	if discarding {
		k.receiver.poke()
	}
	if k.stuck.Load() && !discarding && r.unconfirmed >= k.limit/4 && r.retained+2*grown >= k.limit/4*3 {
		k.log.Error("giving log back unread, since the cache could not take it: a reconcile will follow",
			zap.Int64("retained_bytes", r.retained), zap.Int64("max_retained_wal", k.limit))
		k.metrics.released.Inc()
		k.receiver.release()
	}
	if r.restart != last.restart {
		k.pause = noteMin
	}
	share := k.limit / 2
	if k.stuck.Load() {
		share = k.limit / 4
	}
	if confirmed := r.retained - r.unconfirmed; confirmed < share/2 || r.retained+grown < share || r.at.Before(k.noteDue) {
		return
	}
	// An error is as good as no note: the server writes one sooner or later.
	if err := noteRunning(ctx, conn, slot); err != nil {
		k.log.Debug("the server was asked in vain to note the running transactions", zap.Error(err))
	}
	k.noteDue = time.Now().Add(k.pause)
	k.pause = min(2*k.pause, noteMax)
	k.receiver.poke()
}

// boundUnread bounds the log of a slot that no session comes to read, for the reason that cause gives: a table or a right is missing, there is no walsender
// left. Nothing can be given back without reading it, so the slot is dropped; that it is missing asks for a reconcile.
func (s *session) boundUnread(ctx context.Context, cause error) {
	if s.cfg.MaxRetainedWAL == 0 || ctx.Err() != nil || errors.Is(cause, errAgain) || Permanent(cause) && !s.r.established { // the last one ends the program
		return
	}
	stepCtx, cancel := step(ctx, queryTimeout, "reading how much log is retained")
	defer cancel()
	var retained int64
	err := s.query.QueryRow(stepCtx, `SELECT (pg_current_wal_flush_lsn() - restart_lsn)::bigint FROM pg_replication_slots
		WHERE slot_name = $1 AND NOT active AND restart_lsn IS NOT NULL AND plugin = $2 AND database = current_database()`, s.cfg.Slot, outputPlugin).Scan(&retained)
	if err != nil { // there is no such slot, or the connection is the cause
		return
	}
	s.r.metrics.retained.Set(float64(retained))
	s.r.update(func(st *Status) { st.RetainedWAL = retained })
	if retained < s.cfg.MaxRetainedWAL/4*3 {
		return
	}
	if err := dropSlot(ctx, s.query, s.cfg.Slot); err != nil {
		s.log.Debug("a slot that nobody reads could not be dropped", zap.Error(err)) // somebody has it by now
		return
	}
	s.log.Error("dropped the replication slot, since it retained log that could not be read: a reconcile will follow", zap.String("slot", s.cfg.Slot),
		zap.Int64("retained_bytes", retained), zap.Int64("max_retained_wal", s.cfg.MaxRetainedWAL), zap.NamedError("cause", cause))
}

// noteRunning makes the server note the running transactions in its log, so that the restart position of our slot can move. The beginning of every logical
// slot does that, in all majors and for every role that may replicate; the slot itself is of no use.
func noteRunning(ctx context.Context, conn *pgx.Conn, slot string) error {
	ctx, cancel := step(ctx, queryTimeout, "noting the running transactions")
	defer cancel()
	sql := fmt.Sprintf("SET statement_timeout = %d; SELECT pg_drop_replication_slot(slot_name) FROM pg_create_logical_replication_slot(%s, %s, true); SET statement_timeout = 0",
		noteTimeout.Milliseconds(), quoteLiteral(temporaryName(slot)), quoteLiteral(outputPlugin))
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll() // one transaction: an error takes back the setting, and the server the slot
	return err
}
