package soak

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// source runs transactions, one after the other, and tells the history.
type source struct {
	url     string
	history *history
	db      *pgx.Conn

	script   []string // everything that was run, for people
	keep     bool     // the script
	prepared string   // name of a transaction that is prepared and not yet decided
	prepares int

	committed, aborted int
	aborts             map[string]int // by reason
	misfit             error          // the first of those that no load may end with
	slowest            time.Duration  // commit
}

func (s *source) connect(ctx context.Context) error {
	if s.db != nil && !s.db.IsClosed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	db, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	if _, err := db.Exec(ctx, "SET lock_timeout = '300ms'"); err != nil { // a prepared transaction may hold locks
		return errors.Join(err, db.Close(ctx))
	}
	s.db = db
	return nil
}

func (s *source) close() {
	if s.db != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.db.Close(ctx) // the server may be down
	}
}

// ending is how a transaction ends.
type ending string

const (
	commit   ending = "COMMIT"
	rollback ending = "ROLLBACK"
	prepare  ending = "PREPARE TRANSACTION"
)

// step is one change of a transaction; mark tells what its savepoint is for.
type step struct {
	stmts []stmt
	mark  string // "", "RELEASE" or "ROLLBACK TO"
}

// transaction runs the steps. A statement that fails, other than by the end of the connection, takes its transaction with it, which is not an error.
func (s *source) transaction(ctx context.Context, steps []step, end ending) error {
	schema := false
	for _, step := range steps {
		for _, st := range step.stmts {
			schema = schema || st.schema
		}
	}
	s.history.begin(schema)
	err := s.run(ctx, steps, end)
	if err != nil && s.db.IsClosed() {
		return err // what became of it shows at the next connection
	}
	if err != nil {
		s.abort(err)
		if err := s.exec(ctx, "ROLLBACK"); err != nil {
			return err
		}
	} else {
		s.committed++
	}
	return s.history.end(ctx, s.db)
}

// rightly are the SQLSTATEs with which random changes may meet what is there, a prepared transaction or a server that ends.
var rightly = map[string]bool{"23503": true, "23505": true, "55P03": true, "57P01": true, "57P02": true}

// reasonOf makes one kind of many errors. A wrong one means that the load does not fit the tables, as they are or as a migration left them.
func reasonOf(err error) (reason string, wrong bool) {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err.Error(), true
	}
	return e.Code + " " + withoutNumbers(e.Message), !rightly[e.Code]
}

// abort counts a transaction that was aborted.
func (s *source) abort(err error) {
	s.aborted++
	reason, wrong := reasonOf(err)
	if s.aborts == nil {
		s.aborts = map[string]int{}
	}
	s.aborts[reason]++
	if wrong && s.misfit == nil {
		s.misfit = err
	}
	s.note("-- " + strings.ReplaceAll(err.Error(), "\n", " "))
}

// caughtUp reads what is committed after the connection was lost.
func (s *source) caughtUp(ctx context.Context) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	return s.history.end(ctx, s.db)
}

func (s *source) run(ctx context.Context, steps []step, end ending) error {
	if err := s.exec(ctx, "BEGIN"); err != nil {
		return err
	}
	for _, step := range steps {
		if step.mark != "" {
			if err := s.exec(ctx, "SAVEPOINT a"); err != nil {
				return err
			}
		}
		for _, st := range step.stmts {
			if err := s.statement(ctx, st); err != nil {
				return err
			}
		}
		if step.mark != "" {
			if err := s.exec(ctx, step.mark+" SAVEPOINT a"); err != nil {
				return err
			}
		}
	}
	start := time.Now()
	defer func() { s.slowest = max(s.slowest, time.Since(start)) }()
	if end == prepare {
		s.prepares++
		name := fmt.Sprint("p", s.prepares)
		if err := s.exec(ctx, fmt.Sprintf("PREPARE TRANSACTION '%s'", name)); err != nil {
			return err
		}
		s.prepared = name
		return nil
	}
	return s.exec(ctx, string(end))
}

func (s *source) statement(ctx context.Context, st stmt) error {
	if !st.may {
		return s.send(ctx, st)
	}
	if err := s.exec(ctx, "SAVEPOINT b"); err != nil {
		return err
	}
	err := s.send(ctx, st)
	if err == nil {
		return s.exec(ctx, "RELEASE SAVEPOINT b")
	}
	if s.db.IsClosed() {
		return err
	}
	s.note("-- " + strings.ReplaceAll(err.Error(), "\n", " "))
	return s.exec(ctx, "ROLLBACK TO SAVEPOINT b")
}

func (s *source) send(ctx context.Context, st stmt) error {
	if st.data == "" {
		return s.exec(ctx, st.sql)
	}
	s.note(st.String())
	_, err := s.db.PgConn().CopyFrom(ctx, strings.NewReader(st.data), st.sql)
	return err
}

func (s *source) exec(ctx context.Context, sql string) error {
	s.note(sql + ";")
	_, err := s.db.PgConn().Exec(ctx, sql).ReadAll()
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "25P02" {
		return fmt.Errorf("the model's SQL went on after an error: %w", err)
	}
	return err
}

func (s *source) note(line string) {
	if s.keep {
		s.script = append(s.script, line)
	}
}

// decide ends the prepared transaction, if there is one.
func (s *source) decide(ctx context.Context, how ending) error {
	if s.prepared == "" {
		return nil
	}
	s.history.begin(false) // migrations are not prepared
	err := s.exec(ctx, fmt.Sprintf("%s PREPARED '%s'", how, s.prepared))
	if err != nil && s.db.IsClosed() {
		return err
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); err != nil && !(ok && e.Code == "42704") { // it was decided, the answer was lost
		return err
	}
	s.prepared = ""
	return s.history.end(ctx, s.db)
}

// alone runs a statement that no transaction may contain.
func (s *source) alone(ctx context.Context, sql string) error {
	s.history.begin(true)
	if err := s.exec(ctx, sql); err != nil && s.db.IsClosed() {
		return err
	}
	return s.history.end(ctx, s.db)
}
