package replication

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/killpoint"
)

// walConn is a connection in COPY mode. One goroutine uses it, but for Wake.
type walConn interface {
	// Arm sets the deadline of the receives that follow.
	Arm(deadline time.Time)

	// Receive returns the payload of the next CopyData message, valid until the next call. errQuiet means that the deadline has passed or that somebody
	// called Wake; the connection stays usable. Every other error ends it.
	Receive() ([]byte, error)

	// Status acknowledges the position.
	Status(acknowledge change.LSN, replyRequested bool) error

	// Wake ends a Receive early. It may be called by any goroutine.
	Wake()

	Close()
}

// errQuiet is the answer of Receive when there is nothing to receive.
var errQuiet = errors.New("nothing received")

// pgWAL is the walConn of a server.
type pgWAL struct {
	conn *pgconn.PgConn
}

// startReplication puts the connection into COPY mode. It starts where the slot stands: any other position would either be ignored or skip changes.
func startReplication(ctx context.Context, conn *pgconn.PgConn, slot, publication string) (*pgWAL, error) {
	ctx, cancel := step(ctx, queryTimeout, "starting replication")
	defer cancel()
	err := pglogrepl.StartReplication(ctx, conn, pgx.Identifier{slot}.Sanitize(), 0, pglogrepl.StartReplicationOptions{
		Mode:       pglogrepl.LogicalReplication,
		PluginArgs: []string{"proto_version '1'", "publication_names " + quoteLiteral(pgx.Identifier{publication}.Sanitize())},
	})
	if err != nil {
		return nil, fmt.Errorf("starting replication from slot %q: %w", slot, explained(err))
	}
	return &pgWAL{conn: conn}, nil
}

func (w *pgWAL) Arm(deadline time.Time) {
	_ = w.conn.Conn().SetReadDeadline(deadline) // a closed connection says so at the next receive
}

func (w *pgWAL) Wake() {
	_ = w.conn.Conn().SetReadDeadline(time.Unix(1, 0))
}

func (w *pgWAL) Receive() ([]byte, error) {
	// Without a context: the deadline is set by Arm once for many messages, which is much cheaper.
	received, err := w.conn.ReceiveMessage(context.Background())
	switch m := received.(type) {
	case *pgproto3.CopyData:
		return m.Data, nil
	case *pgproto3.ErrorResponse:
		// The server leaves the connection open after an ERROR and would be silent for ever (F16).
		return nil, fmt.Errorf("streaming: %w", explained(pgconn.ErrorResponseToPgError(m)))
	case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		return nil, errQuiet
	case nil:
		if isTimeout(err) || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, errQuiet
		}
		return nil, fmt.Errorf("streaming: %w", err)
	default:
		return nil, fmt.Errorf("streaming: the server ended the stream with %T", m)
	}
}

// errNoPosition guards against the one value with which a status would acknowledge more than was meant (F4).
var errNoPosition = errors.New("a status without a position is never sent")

// Status is the only caller of SendStandbyStatusUpdate. All three positions are what the cache holds.
func (w *pgWAL) Status(acknowledge change.LSN, replyRequested bool) error {
	if acknowledge == 0 {
		return errNoPosition
	}
	_ = w.conn.Conn().SetWriteDeadline(time.Now().Add(connectTimeout)) // a closed connection says so at the write
	position := pglogrepl.LSN(acknowledge)
	killpoint.Hit(killpoint.Acknowledge)
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), w.conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: position,
		WALFlushPosition: position,
		WALApplyPosition: position,
		ReplyRequested:   replyRequested,
	})
	if err != nil {
		return fmt.Errorf("sending a status: %w", err)
	}
	killpoint.Hit(killpoint.Acknowledge)
	return nil
}

func (w *pgWAL) Close() {
	w.Arm(time.Time{})
	closeConn(w.conn)
}

// quoteLiteral quotes a string for a replication command, which knows no parameters.
func quoteLiteral(text string) string {
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}
