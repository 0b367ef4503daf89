package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/testenv"
)

// F77: a commit is in the log, and its outcome is not on record yet: its process is stopped between the two. The snapshot of a slot counts it as committed,
// but whoever reads its rows marks them as aborted, for everybody and for ever. A copy waits. Newer releases of Postgres wait before they export the snapshot.
func TestSnapshotBeforeTheOutcomeIsOnRecord(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"", "18"} {
		t.Run("read too early, "+cmp.Or(version, "any"), func(t *testing.T) { t.Parallel(); newEarly(t, version).readTooEarly() })
		t.Run("read by a copy, "+cmp.Or(version, "any"), func(t *testing.T) { t.Parallel(); newEarly(t, version).readByCopy() })
	}
}

// readTooEarly shows that the test stops a process where it has to.
func (e *early) readTooEarly() {
	e.t.Helper()
	conn, err := e.cfg.connectReplication(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { closeConn(conn) })
	created := e.create(func(ctx context.Context) (createdSlot, error) {
		return createSlot(ctx, conn, temporaryName(e.cfg.Slot), true, e.version(), time.Minute)
	})
	s := &snapshot{}
	if err := s.openReaders(e.t.Context(), &e.cfg, created.snapshot, 1); err != nil {
		e.t.Fatal(err)
	}
	defer s.close()
	seen, want := 0, 0
	if e.serverWaits {
		want = 1
	}
	if err := s.readers[0].QueryRow(e.t.Context(), "SELECT count(*)::int FROM public.posthog_cohort WHERE name = $1", e.name).Scan(&seen); err != nil {
		e.t.Fatal(err)
	}
	e.goOn()
	if left := one[int](e, "SELECT count(*)::int FROM posthog_cohort WHERE name = $1", e.name); seen != want || left != want {
		e.t.Errorf("the reader saw %d rows, and %d are left, want %d", seen, left, want)
	}
}

func (e *early) readByCopy() {
	e.t.Helper()
	srv, err := readServer(e.t.Context(), e.conn)
	if err != nil {
		e.t.Fatal(err)
	}
	var s *snapshot
	tables := len(e.catalog().tables)
	read, waited := make(chan error, 1), make(chan struct{}, 1)
	e.create(func(ctx context.Context) (created createdSlot, err error) {
		consistent := make(chan change.LSN, 1)
		go func() {
			var err error
			s, err = exactSnapshot(ctx, &e.cfg, &srv, change.Source{}, tables, func(at change.LSN) { consistent <- at }, func(what string) {
				if strings.Contains(what, "standby") { // after the slot, before the tables
					signal(waited)
				}
			})
			read <- err
		}()
		select {
		case created.consistent = <-consistent:
		case err = <-read:
		}
		return created, err
	})
	if !e.serverWaits {
		select {
		case err := <-read:
			e.t.Errorf("the copy did not wait (%v)", err)
			read <- err
		case <-waited:
		}
	}
	e.goOn()
	if err := <-read; err != nil {
		e.t.Fatal(err)
	}
	defer s.close()
	text := ""
	for team, err := range s.teams(e.t.Context(), func(int, int) {}) {
		if err != nil {
			e.t.Fatal(err)
		}
		for _, row := range team.Rows {
			for _, column := range row.Columns {
				text += fmt.Sprintf(" %s", column.Text)
			}
		}
	}
	if left := one[int](e, "SELECT count(*)::int FROM posthog_cohort WHERE name = $1", e.name); left != 1 || !strings.Contains(text, e.name) {
		e.t.Errorf("%d rows are left; the copy has %s", left, text)
	}
}

// early is a bench on whose server commits can be stopped half-way.
type early struct {
	*bench
	name      string // of the row whose commit is stopped
	stopped   int    // process of the server
	committed chan error

	serverWaits bool // newer releases do
}

// one asks for one value, quicker than with a connection of its own.
func one[T any](e *early, sql string, args ...any) (v T) {
	e.t.Helper()
	if err := e.conn.QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		e.t.Fatal(err)
	}
	return v
}

func newEarly(t *testing.T, version string) *early {
	t.Helper()
	server := testenv.PostgresServer(t, testenv.PGOptions{Process: true, Version: version, Conf: map[string]string{
		"fsync": "on", "commit_delay": "100000", "commit_siblings": "0", // every commit holds the log for a tenth of a second, and others queue up behind it
		"synchronous_commit": "off",
	}})
	e := &early{bench: newBench(t, server.Database(t), smallSchema)}
	e.exec("CREATE TABLE noise (n integer); INSERT INTO noise VALUES (0)")
	for _, sql := range publicationSQL(e.cfg.Publication, publicationState{}, e.catalog()) {
		e.exec(sql)
	}
	t.Cleanup(e.goOn)
	return e
}

// begin opens a transaction that has an id.
func (e *early) begin(conn *pgx.Conn) {
	e.t.Helper()
	if _, err := conn.Exec(context.Background(), "BEGIN; SELECT pg_current_xact_id()"); err != nil {
		e.t.Fatal(err)
	}
}

func (e *early) rollback(conn *pgx.Conn) {
	e.t.Helper()
	if _, err := conn.Exec(context.Background(), "ROLLBACK"); err != nil {
		e.t.Fatal(err)
	}
}

// create runs the creation of a slot, stops a commit while it waits for the last transactions that it has to wait for, and lets it complete.
func (e *early) create(slot func(context.Context) (createdSlot, error)) createdSlot {
	e.t.Helper()
	first, second := e.db.Conn(e.t), e.db.Conn(e.t)
	e.begin(first)
	type answer struct {
		slot createdSlot
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		created, err := slot(e.t.Context())
		answered <- answer{created, err}
	}()
	// It waits for two generations, one after the other. What begins after that and commits before the end is in its snapshot.
	e.waitsFor(first)
	e.begin(second)
	e.rollback(first)
	e.waitsFor(second)
	e.stopCommit()
	e.rollback(second)
	var created createdSlot
	e.eventually(func() error {
		select {
		case a := <-answered:
			created = a.slot
			return a.err
		default:
		}
		if !e.serverWaits && e.stopped != 0 && e.waits(e.stopped) {
			e.t.Log("this Postgres waits for the outcome by itself")
			e.serverWaits = true
			e.goOn()
		}
		return errors.New("the creation of the slot does not end")
	})
	return created
}

// waits reports whether the creation of a slot waits for the process.
func (e *early) waits(pid int) bool {
	e.t.Helper()
	return one[bool](e, "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE backend_type = 'walsender' AND $1::int = ANY (pg_blocking_pids(pid)))", pid)
}

// waitsFor waits until the creation of a slot waits for the transaction.
func (e *early) waitsFor(conn *pgx.Conn) {
	e.t.Helper()
	e.eventually(func() error {
		if !e.waits(int(conn.PgConn().PID())) {
			return errors.New("the creation of the slot does not wait")
		}
		return nil
	})
}

// stopCommit stops a process that has logged its commit and waits for another one to write it. Once that has happened, the stopped one is still to record
// the outcome.
func (e *early) stopCommit() {
	e.t.Helper()
	stop := make(chan struct{})
	var writing sync.WaitGroup
	defer writing.Wait()
	defer sync.OnceFunc(func() { close(stop) })()
	other, victim := e.db.Conn(e.t), e.db.Conn(e.t)
	writing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := other.Exec(context.Background(), "SET synchronous_commit = on; UPDATE noise SET n = n + 1"); err != nil {
				e.t.Error(err)
				return
			}
		}
	})
	pid := int(victim.PgConn().PID())
	attempt := 0
	e.eventually(func() error {
		attempt++
		e.name, e.committed = fmt.Sprintf("half-way, attempt %d", attempt), make(chan error, 1)
		go func() {
			sql := "SET synchronous_commit = on; INSERT INTO posthog_cohort (team_id, name) VALUES (1, " + quoteLiteral(e.name) + ")"
			_, err := victim.Exec(context.Background(), sql)
			e.committed <- err
		}()
		for {
			if e.waitsForLog(pid) {
				_ = syscall.Kill(pid, syscall.SIGSTOP)
				if e.waitsForLog(pid) {
					e.stopped = pid
					return nil
				}
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
			select {
			case err := <-e.committed:
				return fmt.Errorf("the commit got through (%w)", err)
			default:
			}
		}
	})
	written := one[int](e, "SELECT n FROM noise")
	e.eventually(func() error {
		if now := one[int](e, "SELECT n FROM noise"); now < written+2 {
			return fmt.Errorf("%d of %d commits", now, written+2)
		}
		return nil
	})
}

// waitsForLog reports whether the process waits for another one to write the log.
func (e *early) waitsForLog(pid int) bool {
	return strings.HasSuffix(one[string](e, "SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = $1", pid), "WALWrite")
}

// goOn lets the stopped process go on, and waits until its commit has completed.
func (e *early) goOn() {
	if e.stopped == 0 {
		return
	}
	_ = syscall.Kill(e.stopped, syscall.SIGCONT)
	e.stopped = 0
	if err := <-e.committed; err != nil {
		e.t.Error(err)
	}
}
