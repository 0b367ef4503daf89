package replication

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/everflag/everflag/internal/change"
)

// xidSnapshot is a snapshot as pg_current_snapshot() prints it.
type xidSnapshot struct {
	xmin, xmax uint64
	running    map[uint64]bool
}

// parseSnapshot reads "xmin:xmax:xid,xid,…".
func parseSnapshot(text string) (xidSnapshot, error) {
	s := xidSnapshot{running: map[uint64]bool{}}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, fmt.Errorf("snapshot %q: want three parts", text)
	}
	var errMin, errMax error
	s.xmin, errMin = strconv.ParseUint(parts[0], 10, 64)
	s.xmax, errMax = strconv.ParseUint(parts[1], 10, 64)
	if errMin != nil || errMax != nil {
		return s, fmt.Errorf("snapshot %q: want numbers", text)
	}
	for xid := range strings.SplitSeq(parts[2], ",") {
		if xid == "" {
			continue
		}
		n, err := strconv.ParseUint(xid, 10, 64)
		if err != nil {
			return s, fmt.Errorf("snapshot %q: %w", text, err)
		}
		s.running[n] = true
	}
	return s, nil
}

// sees reports whether a transaction counts as committed in the snapshot, if it committed at all.
func (s xidSnapshot) sees(xid uint64) bool {
	return xid < s.xmin || xid < s.xmax && !s.running[xid]
}

// covers reports whether everything that the exported snapshot counts as committed has also left the list of running transactions, as the ordinary
// snapshot shows it. Only then is the outcome of each of them on record, and rows may be read (F77).
func (s xidSnapshot) covers(exported xidSnapshot) bool {
	if s.xmax < exported.xmax {
		return false
	}
	for xid := range s.running {
		if exported.sees(xid) {
			return false
		}
	}
	return true
}

// snapshot is a set of connections, one per table, that all see the same state of the source.
type snapshot struct {
	server  *server
	catalog *catalog // as of the snapshot
	readers []*pgx.Conn
	at      change.LSN
	source  change.Source
}

func (s *snapshot) close() {
	for _, conn := range s.readers {
		closeConn(conn)
	}
}

const beginSnapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

// openReaders opens a connection per table in the snapshot of that name.
func (s *snapshot) openReaders(ctx context.Context, cfg *Config, name string, count int) error {
	s.readers = make([]*pgx.Conn, count)
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range s.readers {
		group.Go(func() error {
			conn, err := cfg.connect(groupCtx)
			if err != nil {
				return err
			}
			s.readers[i] = conn
			return importSnapshot(groupCtx, conn, name)
		})
	}
	err := group.Wait()
	if err != nil {
		opened := s.readers[:0]
		for _, conn := range s.readers {
			if conn != nil {
				opened = append(opened, conn)
			}
		}
		s.readers = opened
		s.close()
		return err
	}
	return nil
}

func importSnapshot(ctx context.Context, conn *pgx.Conn, name string) error {
	ctx, cancel := step(ctx, queryTimeout, "importing the snapshot")
	defer cancel()
	sql := beginSnapshot + "; SET TRANSACTION SNAPSHOT " + quoteLiteral(name)
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("importing the snapshot: %w", explained(err))
	}
	return nil
}

// ordinarySnapshot is what any transaction would see now. A commit that waits for a synchronous standby is not in it, though the log has it (F1): it is
// good for looking and for a provisional fill, not for a start position. Its position is one that lies behind everything it sees.
func ordinarySnapshot(ctx context.Context, cfg *Config, tables int, source change.Source, srv *server) (*snapshot, error) {
	first, err := cfg.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn(first) // the importers have a hold on the snapshot of their own by then
	if err := srv.same(ctx, first.PgConn()); err != nil {
		return nil, err
	}
	stepCtx, cancel := step(ctx, queryTimeout, "taking a snapshot")
	defer cancel()
	if _, err := first.Exec(stepCtx, beginSnapshot); err != nil {
		return nil, fmt.Errorf("taking a snapshot: %w", err)
	}
	var name string
	if err := first.QueryRow(stepCtx, "SELECT pg_export_snapshot()").Scan(&name); err != nil {
		return nil, fmt.Errorf("taking a snapshot: %w", err)
	}
	s := &snapshot{server: srv, source: source}
	if s.at, err = walEnd(ctx, first); err != nil {
		return nil, err
	}
	if err := s.openReaders(ctx, cfg, name, max(tables, 1)); err != nil {
		return nil, err
	}
	if s.catalog, err = readCatalog(ctx, s.readers[0], srv.version, cfg.Schema, cfg.Publication); err != nil {
		s.close()
		return nil, err
	}
	if len(s.catalog.tables) > len(s.readers) {
		s.close()
		return nil, errMoved
	}
	if err := passable(ctx, first); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// passable ends the transaction of conn such that a stream soon passes the end of the log that it has read. The last of the log may be a record that nobody flushes, of a reader that
// tidied up a page and was aborted, or the header of an empty page: on a quiet server nothing would be sent from there for 15 seconds or more. A commit with a transaction id puts
// a record behind it that the walwriter flushes. synchronous_commit is off, since the commit must not wait for a synchronous standby (F1).
func passable(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := step(ctx, queryTimeout, "ending a snapshot")
	defer cancel()
	if _, err := conn.PgConn().Exec(ctx, "SET LOCAL synchronous_commit = off; SELECT pg_current_xact_id(); COMMIT").ReadAll(); err != nil {
		return fmt.Errorf("ending a snapshot: %w", err)
	}
	return nil
}

// waitCovered returns when every transaction that the snapshot of reader sees has really ended.
func waitCovered(ctx context.Context, reader, watch *pgx.Conn, waiting func()) error {
	exported, err := currentSnapshot(ctx, reader)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(coverEvery)
	defer ticker.Stop()
	for {
		now, err := currentSnapshot(ctx, watch)
		if err != nil {
			return err
		}
		if now.covers(exported) {
			return nil
		}
		waiting()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// coverEvery is how often waitCovered looks: commits pass in well under a millisecond unless they wait for a synchronous standby.
const coverEvery = 20 * time.Millisecond

func currentSnapshot(ctx context.Context, conn *pgx.Conn) (xidSnapshot, error) {
	ctx, cancel := step(ctx, queryTimeout, "reading the current snapshot")
	defer cancel()
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_current_snapshot()::text").Scan(&text); err != nil {
		return xidSnapshot{}, fmt.Errorf("reading the current snapshot: %w", err)
	}
	return parseSnapshot(text)
}
