package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/everflag/everflag/internal/change"
)

// errMoved means that a table was redefined between a snapshot and the locks on the tables. Some redefinitions, TRUNCATE and rewriting ALTER TABLE, make a
// table look empty to older snapshots, so that the copy is worthless.
var errMoved = errors.New("a table was redefined meanwhile")

// errInTheWay means that somebody else's lock waits for the copy's.
var errInTheWay = errors.New("somebody else's statement waits for a table that is being copied")

// watchEvery is how often blockers are looked for, in both directions.
const watchEvery = time.Second

// exactSnapshot takes the snapshot that belongs to the consistent point of a temporary slot: it holds exactly the commits that end at or before that point,
// also those that still wait for a synchronous standby, which an ordinary snapshot misses (F1). consistent is called with the point as soon as it is known,
// waiting with what the server is waiting for.
func exactSnapshot(ctx context.Context, cfg *Config, srv *server, source change.Source, tables int,
	consistent func(change.LSN), waiting func(string),
) (*snapshot, error) {
	conn, err := cfg.connectReplication(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn) // the slot goes with it; the readers have a hold on the snapshot of their own by then
	watch, err := cfg.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn(watch)
	for _, other := range []*pgconn.PgConn{conn, watch.PgConn()} {
		if err := srv.same(ctx, other); err != nil {
			return nil, err
		}
	}

	// Before the point of the copy: what the publication did not carry until now is in the copy, what comes later in the stream. The cache is marked.
	if _, err := ensurePublication(ctx, watch, srv.version, cfg); err != nil {
		return nil, err
	}
	created, err := createExplained(ctx, conn, watch, temporaryName(cfg.Slot), true, srv.version, temporaryLockLimit, waiting)
	if err != nil {
		return nil, err
	}
	consistent(created.consistent)
	s := &snapshot{server: srv, at: created.consistent, source: source}
	if err := s.openReaders(ctx, cfg, created.snapshot, tables); err != nil {
		return nil, err
	}
	if err := s.settle(ctx, cfg, watch, waiting); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// How long the creation of a slot waits for a single transaction before it is tried anew. It waits for two generations of transactions, one after the
// other, so that the bound must not be short.
const temporaryLockLimit = 10 * time.Minute

// settle waits until the tables may be read and makes sure that they are what the snapshot says.
func (s *snapshot) settle(ctx context.Context, cfg *Config, watch *pgx.Conn, waiting func(string)) error {
	err := waitCovered(ctx, s.readers[0], watch, func() { waiting("commits that wait for a synchronous standby") })
	if err != nil {
		return err
	}
	if s.catalog, err = readCatalog(ctx, s.readers[0], s.server.version, cfg.Schema, cfg.Publication); err != nil {
		return err
	}
	if err := s.catalog.check(); err != nil {
		return err
	}
	if len(s.catalog.tables) > len(s.readers) {
		return errMoved
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	now, err := readCatalog(ctx, watch, s.server.version, cfg.Schema, cfg.Publication)
	if err != nil {
		return err
	}
	if now.fingerprint != s.catalog.fingerprint {
		return errMoved
	}
	s.source.Fingerprint = s.catalog.fingerprint
	return nil
}

// lock keeps the tables from being redefined until the snapshot is closed. It does not wait long: others would queue up behind us.
func (s *snapshot) lock(ctx context.Context) error {
	ctx, cancel := step(ctx, queryTimeout, "locking the tables against redefinition")
	defer cancel()
	var names []string
	for i := range s.catalog.tables {
		names = append(names, s.catalog.tables[i].reference(s.catalog.schema))
	}
	sql := "SET LOCAL lock_timeout = '1s'; LOCK TABLE " + strings.Join(names, ", ") + " IN ACCESS SHARE MODE; SET LOCAL lock_timeout = 0"
	if _, err := s.readers[0].PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		if hasState(err, stateLockNotAvailable) || hasState(err, stateUndefinedTable) {
			return fmt.Errorf("%w: %w", errMoved, err)
		}
		return fmt.Errorf("locking the tables against redefinition: %w", err)
	}
	return nil
}

// giveWay reads the tables by use, and breaks off when a statement of somebody else waits for one of them.
func (s *snapshot) giveWay(ctx context.Context, cfg *Config, use func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var yielding sync.WaitGroup
	defer yielding.Wait()
	defer cancel(nil)
	yielding.Go(func() {
		if err := s.yieldTo(ctx, cfg, cancel); err != nil && ctx.Err() == nil {
			cancel(fmt.Errorf("watching for statements that wait: %w", err))
		}
	})
	err := use(ctx)
	if err != nil && ctx.Err() != nil && !errors.Is(err, change.ErrFenced) {
		err = fmt.Errorf("%w: %w", errCopy, context.Cause(ctx))
	}
	return err
}

// yieldTo cancels the copy when a statement of somebody else waits for it: a migration must not run into its lock_timeout because of us.
func (s *snapshot) yieldTo(ctx context.Context, cfg *Config, cancel context.CancelCauseFunc) error {
	conn, err := cfg.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	ours := make([]int32, 0, len(s.readers))
	for _, reader := range s.readers {
		ours = append(ours, int32(reader.PgConn().PID()))
	}
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		var blocked bool
		err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_locks l WHERE NOT l.granted AND pg_blocking_pids(l.pid) && $1)`, ours).Scan(&blocked)
		if err != nil {
			return err
		}
		if blocked {
			cancel(errInTheWay)
			for _, reader := range s.readers { // at once: whoever consumes the copy may be slow to notice
				_ = reader.PgConn().Conn().Close() // frees its locks; the connection is of no use any more
			}
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// createExplained creates a slot and says meanwhile, through another connection, what the server waits for.
func createExplained(ctx context.Context, conn *pgconn.PgConn, watch *pgx.Conn, name string, temporary bool, version int, lockLimit time.Duration,
	waiting func(string),
) (createdSlot, error) {
	watchCtx, cancel := context.WithCancel(ctx)
	created := make(chan struct{})
	var explaining sync.WaitGroup
	explaining.Go(func() { explain(watchCtx, watch, created, waiting) })
	defer explaining.Wait()
	defer cancel()
	slot, err := createSlot(ctx, conn, name, temporary, version, lockLimit)
	close(created) // lets a query in hand finish, so that the connection stays usable
	explaining.Wait()
	return slot, err
}

func explain(ctx context.Context, conn *pgx.Conn, done <-chan struct{}, waiting func(string)) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		found, err := blockers(ctx, conn)
		if err != nil {
			return // an explanation less; a broken connection shows at its next use
		}
		texts := make([]string, 0, len(found))
		for _, b := range found {
			texts = append(texts, b.String())
		}
		if len(texts) > 0 {
			waiting(strings.Join(texts, "; "))
		}
	}
}
