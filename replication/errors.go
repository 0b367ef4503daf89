package replication

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// permanentError marks what waiting cannot mend.
type permanentError struct{ err error }

func (e permanentError) Error() string   { return e.err.Error() }
func (e permanentError) Unwrap() error   { return e.err }
func (e permanentError) Permanent() bool { return true }

// refuse is a permanent error of our own making.
func refuse(format string, args ...any) error {
	return permanentError{fmt.Errorf(format, args...)}
}

// The SQLSTATEs that are looked at.
const (
	stateObjectInUse        = "55006"
	stateNotInPrerequisite  = "55000"
	stateUndefinedObject    = "42704"
	stateUndefinedTable     = "42P01"
	stateDuplicateObject    = "42710"
	stateAdminShutdown      = "57P01"
	stateLockNotAvailable   = "55P03"
	stateInsufficientRights = "42501"
)

// permanentStates are the SQLSTATEs that only somebody's action ends. All others are retried: a slot is never given up for a server that is busy,
// restarting or out of connections.
var permanentStates = map[string]string{
	"28000":                 "check the user in --postgres-url and the server's pg_hba.conf",
	"28P01":                 "check the user and the password in --postgres-url",
	"3D000":                 "check the database name in --postgres-url",
	stateInsufficientRights: "grant the missing privilege: `replicator setup --print-sql` prints what the role needs",
	stateUndefinedTable:     "check --postgres-url and --schema",
	"3F000":                 "check --schema",
	"0A000":                 "Postgres 14 or newer is needed",
	"08P01":                 "connect to Postgres itself: poolers do not pass the replication protocol on",
	"42601":                 "Postgres 14 or newer is needed",
}

// Permanent reports whether waiting cannot mend the error.
func Permanent(err error) bool {
	if marked, ok := errors.AsType[interface {
		error
		Permanent() bool
	}](err); ok {
		return marked.Permanent()
	}
	if errors.Is(err, errMalformed) {
		return true
	}
	if errors.Is(err, errMoved) { // whatever the server said of the table: the next look at the catalog knows better
		return false
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && permanentStates[pgErr.Code] != ""
}

// lasting reports whether a permanent error ends even a replicator that has been at work: a refusal or input that cannot be read. Rights and passwords
// that change at run time are waited for, since they can be put right without us (F27).
func lasting(err error) bool {
	if errors.Is(err, errMalformed) {
		return true
	}
	_, refused := errors.AsType[permanentError](err)
	return refused
}

// deniesLogin reports whether the server does not let us in, which a rotated password is enough for.
func deniesLogin(err error) bool { return hasState(err, "28000") || hasState(err, "28P01") }

// explained adds the remedy to the error, if its SQLSTATE has one.
func explained(err error) error {
	if err == nil {
		return nil
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		if remedy := permanentStates[pgErr.Code]; remedy != "" {
			return fmt.Errorf("%w: %s", err, remedy)
		}
	}
	return err
}

// hasState reports whether the server answered with the SQLSTATE.
func hasState(err error, state string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == state
}

// isTimeout reports whether a read or a step ran into its deadline.
func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout() || errors.Is(err, context.DeadlineExceeded)
}
