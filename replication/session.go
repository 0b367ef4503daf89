package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/change"
)

// session is one life of the connections to the source: it owns the slot, and ends when it loses the slot, the server or the cache.
type session struct {
	r       *Replicator
	cfg     *Config
	log     *zap.Logger
	query   *pgx.Conn // used by session, then by the watcher
	server  server
	source  change.Source
	catalog *catalog

	unpublished bool // the publication has to be adjusted

	receiver *receiver
}

// session runs one session. streamed means that it came to stream.
func (r *Replicator) session(ctx context.Context) (streamed bool, err error) {
	s := &session{r: r, cfg: &r.cfg, log: r.log}
	if err := s.prepare(ctx); err != nil {
		return false, err
	}
	r.admitted = true
	defer func() { closeConn(s.query) }()
	conn, err := s.own(ctx)
	if err != nil {
		s.boundUnread(ctx, err)
		return false, err
	}
	return s.lead(ctx, conn)
}

// prepare connects, and refuses what cannot or must not be replicated from.
func (s *session) prepare(ctx context.Context) (err error) {
	s.query, err = s.cfg.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			closeConn(s.query)
		}
	}()
	if s.server, err = readServer(ctx, s.query); err != nil {
		return explained(err)
	}
	if err := s.server.usable(s.cfg.ApplicationName); err != nil {
		return err
	}
	s.source = change.Source{
		SystemID:        s.server.systemID,
		DatabaseOID:     s.server.databaseOID,
		PostmasterStart: s.server.postmasterStart,
		Slot:            s.cfg.Slot,
		Publication:     s.cfg.Publication,
	}
	return nil
}

// own puts a replication connection into COPY mode on our slot: whoever holds the slot leads. If the slot is of no use it is created again, which takes the
// cache's leadership first, so that two processes that find no slot cannot both write.
func (s *session) own(ctx context.Context) (*pgWAL, error) {
	slot, end, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	d := judgeSlot(slot, s.server.database, end)
	if d.action == actStream && s.r.undecodable != "" {
		d = decision{action: actRecreate, reason: s.r.undecodable}
	}
	switch d.action {
	case actRefuse:
		return nil, refuse("%s", d.reason)
	case actStandBy:
		return nil, s.standBy(ctx, d.reason)
	case actRecreate:
		if err := s.recreate(ctx, slot.exists, d.reason); err != nil {
			return nil, err
		}
	case actStream, actReconcile:
	}
	if err := s.readTables(ctx); err != nil {
		return nil, err
	}
	conn, err := s.connectPair(ctx)
	if err != nil {
		return nil, err
	}
	wal, err := startReplication(ctx, conn, s.cfg.Slot, s.cfg.Publication)
	if err != nil {
		closeConn(conn)
		if hasState(err, stateObjectInUse) || hasState(err, stateUndefinedObject) || hasState(err, stateNotInPrerequisite) {
			return nil, fmt.Errorf("%w: %w", errTaken, err) // the next session's look at the slot tells what to do
		}
		return nil, err
	}
	return wal, nil
}

// errTaken means that the slot changed hands or state between the look at it and the start.
var errTaken = errors.New("the replication slot changed meanwhile")

// look reads the state of the slot and the end of the log.
func (s *session) look(ctx context.Context) (slotState, change.LSN, error) {
	slot, err := readSlot(ctx, s.query, s.server.version, s.cfg.Slot)
	if err != nil {
		return slot, 0, err
	}
	end, err := walEnd(ctx, s.query)
	return slot, end, err
}

// readTables reads how the tables are defined. Changes of tables that the publication does not carry are lost, so that such a start reconciles.
func (s *session) readTables(ctx context.Context) error {
	c, repair, err := readTables(ctx, s.query, s.server.version, s.cfg)
	if err != nil {
		return err
	}
	s.catalog = c
	s.source.Fingerprint = c.fingerprint
	s.unpublished = len(repair) > 0
	return nil
}

// ensureTables makes the publication carry the tables, which has to happen before the slot is created: it decodes with the catalog of its own past (F48).
func (s *session) ensureTables(ctx context.Context) error {
	changed, err := ensurePublication(ctx, s.query, s.server.version, s.cfg)
	if err != nil {
		return err
	}
	if changed {
		s.log.Info("publication adjusted", zap.String("publication", s.cfg.Publication))
	}
	return s.readTables(ctx)
}

// connectPair opens the replication connection and makes sure that it leads to the same server as the other one: a pooler or a list of hosts may send them
// to different ones (F25).
func (s *session) connectPair(ctx context.Context) (*pgconn.PgConn, error) {
	conn, err := s.cfg.connectReplication(ctx)
	if err != nil {
		return nil, err
	}
	timeline, err := readTimeline(ctx, conn)
	if err == nil {
		err = s.server.same(ctx, conn)
	}
	if err != nil {
		closeConn(conn)
		return nil, err
	}
	s.source.Timeline = timeline
	return conn, nil
}

// readTimeline asks which timeline the server's log is on.
func readTimeline(ctx context.Context, conn *pgconn.PgConn) (timeline int32, err error) {
	ctx, cancel := step(ctx, queryTimeout, "reading the timeline")
	defer cancel()
	row, err := simpleRow(ctx, conn, "IDENTIFY_SYSTEM")
	if err != nil {
		return 0, fmt.Errorf("reading the timeline: %w", err)
	}
	if len(row) < 2 {
		return 0, fmt.Errorf("reading the timeline: IDENTIFY_SYSTEM returned %d columns", len(row))
	}
	if _, err := fmt.Sscan(string(row[1]), &timeline); err != nil {
		return 0, fmt.Errorf("reading the timeline %q: %w", row[1], err)
	}
	return timeline, nil
}

// lead runs a session that owns the slot.
func (s *session) lead(ctx context.Context, wal *pgWAL) (streamed bool, err error) {
	// Only now: nobody else can move the slot any more.
	slot, end, err := s.look(ctx)
	if err != nil {
		wal.Close()
		return false, err
	}
	s.receiver = newReceiver(wal, s.cfg, slot.confirmed, s.server.senderTimeout, &s.r.received)
	s.r.setRole(RoleLeader, "")
	s.r.stoodBy, s.r.ended = "", 0
	s.r.update(func(st *Status) {
		st.SystemID, st.Timeline, st.Database = s.server.systemID, s.source.Timeline, s.server.database
		st.Acknowledged, st.WALEnd = slot.confirmed.String(), end.String()
	})
	watchCtx, cancel := context.WithCancel(ctx)
	w := &watcher{
		s: s, reports: make(chan report, 1), failed: make(chan error, 1), pid: int32(wal.conn.PID()),
		retention: retention{limit: s.cfg.MaxRetainedWAL, receiver: s.receiver, metrics: s.r.metrics, status: s.r.update, log: s.log},
	}
	var running sync.WaitGroup
	running.Go(s.receiver.run)
	running.Go(func() { w.run(watchCtx) })
	defer running.Wait()
	defer s.receiver.stop()
	defer cancel()
	l := newLeader(s, w, slot.confirmed, end)
	err = l.run(ctx)
	s.r.away = l.outage
	return l.established, err
}

// recreate makes a new slot. The cache is marked first: whatever happens from here on, it is reconciled before anything is applied to it. While the server
// waits for running transactions, an incomplete cache is filled provisionally.
func (s *session) recreate(ctx context.Context, exists bool, reason string) error {
	if err := s.readTables(ctx); err != nil { // before the cache is touched
		return err
	}
	position, err := s.acquire(ctx)
	if err != nil {
		return s.relinquish(ctx, exists, err)
	}
	conn, err := s.connectPair(ctx)
	if err != nil {
		return err
	}
	defer func() { closeConn(conn) }()
	if d := decideStart(s.facts(position, 0, ^change.LSN(0), reason)); d.action == actRefuse {
		return refuse("%s", d.reason)
	}
	if err := s.r.sink.Mark(ctx, reason); err != nil {
		return err
	}
	s.r.renewed = reason
	if err := s.ensureTables(ctx); err != nil {
		return err
	}
	if exists {
		if err := dropSlot(ctx, s.query, s.cfg.Slot); err != nil {
			return err
		}
		// A crash here leaves no slot: the next session finds it missing and comes here again.
	}
	s.log.Info("creating the replication slot", zap.String("slot", s.cfg.Slot), zap.String("reason", reason))
	if err := s.create(ctx, conn, reason); err != nil {
		return err
	}
	s.r.undecodable = ""
	s.log.Info("replication slot created", zap.String("slot", s.cfg.Slot))
	return nil
}

// relinquish drops a slot of no use while the cache is away, for which err stands. It would keep log that nobody can ever read for as long as that lasts,
// and no session would get to where --max-retained-wal is seen to (G5). The next sessions find the slot missing, which asks for the same reconcile.
func (s *session) relinquish(ctx context.Context, exists bool, err error) error {
	if !exists || ctx.Err() != nil || lasting(err) {
		return err
	}
	if failed := dropSlot(ctx, s.query, s.cfg.Slot); failed != nil {
		return errors.Join(err, failed)
	}
	s.log.Warn("the replication slot is of no use and the cache is away: dropped it, so that it keeps no log; a reconcile will follow",
		zap.String("slot", s.cfg.Slot))
	return err
}

// facts collects what the start switch looks at.
func (s *session) facts(p change.Position, confirmed, end change.LSN, renewed string) facts {
	return facts{
		position:          p,
		source:            s.source,
		schema:            s.cfg.CacheSchema,
		confirmed:         confirmed,
		walEnd:            end,
		allowSourceChange: s.cfg.AllowSourceChange,
		renewed:           renewed,
		unpublished:       s.unpublished,
	}
}

// acquire takes the cache's leadership. Nothing is held in the source while it waits for a cache that is away.
func (s *session) acquire(ctx context.Context) (change.Position, error) {
	if err := s.vacant(ctx); err != nil {
		return change.Position{}, fmt.Errorf("looking who leads the cache: %w", err)
	}
	position, err := s.r.sink.Acquire(ctx)
	if err != nil {
		return position, fmt.Errorf("taking the lead in the cache: %w", err)
	}
	return position, nil
}

// Bounds for the creation of the slot, see createSlot.
const (
	lockLimitMin = time.Minute
	lockLimitMax = 16 * time.Minute
)

// create creates the slot and looks after the cache meanwhile.
func (s *session) create(ctx context.Context, conn *pgconn.PgConn, reason string) error {
	ctx, cancel := context.WithCancel(ctx)
	var creating sync.WaitGroup
	defer creating.Wait()
	defer cancel()
	created := make(chan error, 1)
	s.r.lockLimit = min(max(s.r.lockLimit, lockLimitMin), lockLimitMax)
	waiting := newWaiting(s.r, s.log)
	s.r.metrics.pending.Set(1)
	s.r.update(func(st *Status) {
		st.LastError, st.ErrorSince = "", time.Time{} // both servers are there
		st.Reconcile = &ReconcileStatus{Reason: reason, Since: time.Now(), Stage: stageWaiting, RowsTotal: s.catalog.rows()}
	})
	creating.Go(func() {
		_, err := createExplained(ctx, conn, s.query, s.cfg.Slot, false, s.server.version, s.r.lockLimit, waiting.tell)
		created <- err
	})
	fill := newFiller(s)
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		select {
		case err := <-created:
			if hasState(err, stateLockNotAvailable) {
				s.r.lockLimit *= 2
				return fmt.Errorf("%w: %w", errTaken, err)
			}
			if hasState(err, stateDuplicateObject) {
				return fmt.Errorf("%w: %w", errTaken, err)
			}
			return err
		case <-beat.C:
			if err := s.r.sink.Beat(ctx, false); err != nil {
				return fmt.Errorf("while the replication slot is created: %w", err)
			}
			if err := fill.tick(ctx); err != nil {
				return err
			}
		}
	}
}
