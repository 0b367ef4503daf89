package replication

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/everflag/everflag/internal/change"
)

// readSlot says how our slot is.
func readSlot(ctx context.Context, conn *pgx.Conn, version int, name string) (slotState, error) {
	ctx, cancel := step(ctx, queryTimeout, "reading the replication slot")
	defer cancel()
	invalidation := "''"
	if version >= 170000 {
		invalidation = "coalesce(invalidation_reason, '')"
	}
	s := slotState{exists: true}
	var status, reason, confirmed string
	err := conn.QueryRow(ctx, `SELECT coalesce(plugin, ''), coalesce(database, ''), coalesce(active_pid, 0), coalesce(wal_status, ''), `+invalidation+`,
		coalesce(confirmed_flush_lsn::text, '0/0') FROM pg_replication_slots WHERE slot_name = $1`, name,
	).Scan(&s.plugin, &s.database, &s.activePID, &status, &reason, &confirmed)
	if errors.Is(err, pgx.ErrNoRows) {
		return slotState{}, nil
	}
	if err != nil {
		return s, fmt.Errorf("reading replication slot %q: %w", name, err)
	}
	if s.confirmed, err = change.ParseLSN(confirmed); err != nil {
		return s, fmt.Errorf("reading replication slot %q: %w", name, err)
	}
	switch {
	case reason != "":
		s.lost = reason
	case status == "lost":
		s.lost = "the server removed log that it needed (max_slot_wal_keep_size)"
	case s.confirmed == 0 && s.activePID == 0:
		s.lost = "its creation was never finished"
	}
	return s, nil
}

// slotSQL is the command that creates a slot on a replication connection. The grammar with parentheses came with 15, failover slots with 17.
func slotSQL(name string, temporary bool, version int) string {
	kind, options, before15 := "", "(SNAPSHOT 'nothing')", "NOEXPORT_SNAPSHOT"
	switch {
	case temporary:
		kind, options, before15 = "TEMPORARY ", "(SNAPSHOT 'export')", "EXPORT_SNAPSHOT"
	case version >= 170000:
		options = "(SNAPSHOT 'nothing', FAILOVER)"
	}
	if version < 150000 {
		options = before15
	}
	return fmt.Sprintf("CREATE_REPLICATION_SLOT %s %sLOGICAL %s %s", pgx.Identifier{name}.Sanitize(), kind, outputPlugin, options)
}

// createdSlot is the answer to slotSQL.
type createdSlot struct {
	consistent change.LSN
	snapshot   string
}

// createSlot waits for every transaction that writes anywhere on the server. lockLimit bounds the wait for a single one: if this program dies meanwhile,
// its server process must not wait on with the slot in hand (F26). A cancelled context is passed on to the server for the same reason.
func createSlot(ctx context.Context, conn *pgconn.PgConn, name string, temporary bool, version int, lockLimit time.Duration) (createdSlot, error) {
	stop := context.AfterFunc(ctx, func() {
		cancelCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second) // ctx is what ended
		defer cancel()
		_ = conn.CancelRequest(cancelCtx) // best effort: lock_timeout ends it otherwise
	})
	defer stop()
	var created createdSlot
	if _, err := conn.Exec(ctx, fmt.Sprintf("SET lock_timeout = %d", lockLimit.Milliseconds())).ReadAll(); err != nil {
		return created, fmt.Errorf("creating replication slot %q: %w", name, err)
	}
	row, err := simpleRow(ctx, conn, slotSQL(name, temporary, version))
	if err != nil {
		return created, fmt.Errorf("creating replication slot %q: %w", name, explained(err))
	}
	if len(row) != 4 {
		return created, fmt.Errorf("creating replication slot %q: the server answered with %d columns instead of 4", name, len(row))
	}
	created.snapshot = string(row[2])
	created.consistent, err = change.ParseLSN(string(row[1]))
	return created, err
}

// temporaryName is unique per attempt, so that the remains of an earlier one are never in the way.
func temporaryName(slot string) string {
	return slot + "_copy_" + strings.ToLower(rand.Text()[:10])
}

// dropSlot removes a slot that nobody uses.
func dropSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	ctx, cancel := step(ctx, queryTimeout, "dropping the replication slot")
	defer cancel()
	if _, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", name); err != nil && !hasState(err, stateUndefinedObject) {
		return fmt.Errorf("dropping replication slot %q: %w", name, err)
	}
	return nil
}

// blocker is a transaction that the creation of a slot waits for.
type blocker struct {
	pid      int32 // 0 for a prepared transaction
	database string
	what     string
	age      time.Duration
}

func (b blocker) String() string {
	who := fmt.Sprintf("pid %d", b.pid)
	if b.pid == 0 {
		who = "prepared transaction"
	}
	return strings.TrimSpace(fmt.Sprintf("%s in database %s, %s old: %s", who, b.database, b.age.Round(time.Second), cmp.Or(b.what, "(not visible to this role)")))
}

// blockers lists the transactions that write, oldest first, in all databases and prepared ones included.
func blockers(ctx context.Context, conn *pgx.Conn) ([]blocker, error) {
	ctx, cancel := step(ctx, queryTimeout, "looking for running transactions")
	defer cancel()
	rows, err := conn.Query(ctx, `
		SELECT pid, coalesce(datname, ''), concat_ws(' ', nullif(application_name, ''), state, wait_event), extract(epoch FROM now() - xact_start)::float8
		FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
		UNION ALL
		SELECT 0, database, gid, extract(epoch FROM now() - prepared)::float8 FROM pg_prepared_xacts
		ORDER BY 4 DESC NULLS LAST LIMIT 5`)
	if err != nil {
		return nil, fmt.Errorf("looking for running transactions: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (blocker, error) {
		var b blocker
		var age *float64
		err := row.Scan(&b.pid, &b.database, &b.what, &age)
		if age != nil {
			b.age = time.Duration(*age * float64(time.Second))
		}
		return b, err
	})
}
