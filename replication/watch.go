package replication

import (
	"context"
	"fmt"
	"time"

	"github.com/everflag/everflag/internal/change"
)

// How often the end of the log is read.
const (
	sampleEvery   = time.Second
	sampleClosely = 100 * time.Millisecond // while much log is retained
)

// report is what the watcher saw.
type report struct {
	at          time.Time // before anything was read
	walEnd      change.LSN
	restart     change.LSN // from which on log is kept for the slot
	retained    int64      // bytes of that log
	unconfirmed int64      // those of them that the slot has not confirmed
	catalog     *catalog   // nil if it was not looked at

	unpublished bool // the publication does not carry the tables of the catalog as it should
}

// watcher looks at the source through an ordinary connection, next to the stream: at the end of the log, at the definitions of the tables, which the stream
// does not report, and at what other sessions make of our connection. It owns the connection while it runs.
type watcher struct {
	s       *session
	pid     int32       // of our walsender
	reports chan report // holds one
	failed  chan error  // holds one

	retention retention
}

// run looks until the context ends or something fails. A failure ends the session: if the server is stopping, this connection is the first to be told (F22).
func (w *watcher) run(ctx context.Context) {
	if err := w.loop(ctx); err != nil && ctx.Err() == nil {
		w.failed <- err
		w.s.receiver.hangUp() // at once, since the leader may be busy and a server that stops waits for us (F22)
	}
}

func (w *watcher) loop(ctx context.Context) error {
	sample := time.NewTimer(0)
	defer sample.Stop()
	catalogDue := time.Now().Add(w.s.cfg.CatalogEvery)
	for {
		r := report{at: time.Now()}
		if err := w.sample(ctx, &r); err != nil {
			return err
		}
		w.retention.bound(ctx, w.s.query, w.s.cfg.Slot, r)
		if !r.at.Before(catalogDue) {
			c, repair, err := readTables(ctx, w.s.query, w.s.server.version, w.s.cfg)
			if err != nil {
				return err
			}
			r.unpublished = len(repair) > 0
			if err := w.syncState(ctx); err != nil {
				return err
			}
			r.catalog = c
			catalogDue = time.Now().Add(w.s.cfg.CatalogEvery)
		}
		select {
		case <-w.reports: // nobody has read the last one: a newer one is better
		default:
		}
		w.reports <- r
		sample.Reset(w.retention.interval())
		select {
		case <-sample.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *watcher) sample(ctx context.Context, r *report) error {
	ctx, cancel := step(ctx, queryTimeout, "reading the end of the log")
	defer cancel()
	var end, restart string
	var spilled, xminAge int64
	err := w.s.query.QueryRow(ctx, `SELECT pg_current_wal_flush_lsn()::text, coalesce(s.restart_lsn, '0/0')::text,
			coalesce(pg_current_wal_flush_lsn() - s.restart_lsn, 0)::bigint, coalesce(pg_current_wal_flush_lsn() - s.confirmed_flush_lsn, 0)::bigint,
			coalesce(age(s.catalog_xmin), 0)::bigint, coalesce(t.spill_bytes, 0)
		FROM (SELECT $1::name AS slot_name) ours LEFT JOIN pg_replication_slots s USING (slot_name) LEFT JOIN pg_stat_replication_slots t USING (slot_name)`,
		w.s.cfg.Slot).Scan(&end, &restart, &r.retained, &r.unconfirmed, &xminAge, &spilled)
	if err != nil {
		return fmt.Errorf("reading the end of the log: %w", err)
	}
	w.s.r.metrics.spilled.Set(float64(spilled))
	w.s.r.metrics.xminAge.Set(float64(xminAge))
	if r.restart, err = change.ParseLSN(restart); err != nil {
		return err
	}
	r.walEnd, err = change.ParseLSN(end)
	return err
}

// syncState refuses to go on as a synchronous standby.
func (w *watcher) syncState(ctx context.Context) error {
	ctx, cancel := step(ctx, queryTimeout, "reading the state of replication")
	defer cancel()
	var state, setting string
	err := w.s.query.QueryRow(ctx, `SELECT coalesce((SELECT sync_state FROM pg_stat_replication WHERE pid = $1), 'async'),
		current_setting('synchronous_standby_names')`, w.pid).Scan(&state, &setting)
	if err != nil {
		return fmt.Errorf("reading the state of replication: %w", err)
	}
	if state != "async" || namesStandby(setting, w.s.cfg.ApplicationName) {
		return refuseSynchronous(setting, w.s.cfg.ApplicationName)
	}
	return nil
}
