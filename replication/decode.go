package replication

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/everflag/everflag/internal/change"
)

// errMalformed marks input that no Postgres sends. It is permanent: to skip what cannot be read would be drift.
var errMalformed = errors.New("malformed replication message")

// postgresEpoch is 2000-01-01, from which the protocol counts microseconds.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// The two messages within CopyData.
const (
	copyXLogData  = 'w'
	copyKeepalive = 'k'
)

// keepalive says how far the server has sent; nothing that ends at or before walEnd can still come.
type keepalive struct {
	walEnd         change.LSN
	replyRequested bool
}

// decodeKeepalive reads a keepalive without its leading type byte.
func decodeKeepalive(payload []byte) (keepalive, error) {
	r := reader{rest: payload}
	k := keepalive{walEnd: change.LSN(r.uint64())}
	r.uint64() // the server's clock
	k.replyRequested = r.uint8() != 0
	return k, r.finish(copyKeepalive)
}

// xlogPayload strips the header of an XLogData message. Its positions are not used: the start of a Relation message is zero, and the end may lie
// beyond records that have not been sent yet (F15).
func xlogPayload(payload []byte) ([]byte, error) {
	if len(payload) < 26 {
		return nil, fmt.Errorf("%w: XLogData of %d bytes", errMalformed, len(payload))
	}
	return payload[25:], nil
}

// The kinds of pgoutput messages of protocol version 1.
const (
	kindBegin    = 'B'
	kindCommit   = 'C'
	kindOrigin   = 'O'
	kindRelation = 'R'
	kindType     = 'Y'
	kindInsert   = 'I'
	kindUpdate   = 'U'
	kindDelete   = 'D'
	kindTruncate = 'T'
	kindMessage  = 'M'
	kindAbort    = 'A' // belongs to version 2, but 18 may send one unasked
)

// message is one decoded pgoutput message. It is filled again and again: only the fields of its kind are meaningful, and byte slices alias the
// receive buffer, so that they are valid until the next receive.
type message struct {
	kind byte

	xid       uint32     // Begin
	commitLSN change.LSN // Begin, Commit
	endLSN    change.LSN // Commit
	time      time.Time  // Begin, Commit

	relation relationMessage // Relation

	oid      uint32 // Insert, Update, Delete
	oldKind  byte   // Update, Delete: 'K' (replica identity), 'O' (whole old row) or 0 (absent)
	old, new []tupleColumn

	truncated []uint32 // Truncate
}

type relationMessage struct {
	oid       uint32
	namespace string
	name      string
	columns   []relationColumn
}

type relationColumn struct {
	name    string
	typeOID uint32
	typmod  int32
}

// The states of a column on the wire.
const (
	tupleNull      = 'n'
	tupleUnchanged = 'u'
	tupleText      = 't'
)

type tupleColumn struct {
	kind byte
	text []byte
}

// decode reads one pgoutput message into m.
func (m *message) decode(payload []byte) error {
	r := reader{rest: payload}
	m.kind = r.uint8()
	switch m.kind {
	case kindBegin:
		m.commitLSN = change.LSN(r.uint64())
		m.time = r.time()
		m.xid = r.uint32()
	case kindCommit:
		r.uint8() // flags, unused
		m.commitLSN = change.LSN(r.uint64())
		m.endLSN = change.LSN(r.uint64())
		m.time = r.time()
	case kindRelation:
		m.decodeRelation(&r)
	case kindInsert:
		m.oid = r.uint32()
		r.expect('N')
		m.new = r.tuple(m.new)
	case kindUpdate:
		m.decodeUpdate(&r)
	case kindDelete:
		m.oid = r.uint32()
		m.oldKind = r.uint8()
		if m.oldKind != 'K' && m.oldKind != 'O' {
			r.failed = true
		}
		m.old = r.tuple(m.old)
	case kindTruncate:
		m.decodeTruncate(&r)
	case kindOrigin, kindType, kindMessage, kindAbort:
		return nil // nothing in them concerns the tables
	default:
		return fmt.Errorf("%w: unknown kind %q", errMalformed, m.kind)
	}
	return r.finish(m.kind)
}

func (m *message) decodeRelation(r *reader) {
	m.relation = relationMessage{oid: r.uint32(), namespace: r.string(), name: r.string()}
	r.uint8() // replica identity
	count := r.count()
	m.relation.columns = make([]relationColumn, 0, count)
	for range count {
		r.uint8() // flags: part of the key
		m.relation.columns = append(m.relation.columns, relationColumn{name: r.string(), typeOID: r.uint32(), typmod: int32(r.uint32())})
	}
}

func (m *message) decodeUpdate(r *reader) {
	m.oid = r.uint32()
	m.oldKind = r.uint8()
	switch m.oldKind {
	case 'K', 'O':
		m.old = r.tuple(m.old)
		r.expect('N')
	case 'N':
		m.oldKind = 0
	default:
		r.failed = true
	}
	m.new = r.tuple(m.new)
}

func (m *message) decodeTruncate(r *reader) {
	count := int(r.uint32())
	r.uint8() // CASCADE, RESTART IDENTITY: the tables are all listed
	if count < 1 || count > len(r.rest)/4 {
		r.failed = true
		return
	}
	m.truncated = m.truncated[:0]
	for range count {
		m.truncated = append(m.truncated, r.uint32())
	}
}

// reader takes values off the front of a message. After a short read it yields zeros and finish reports the message as malformed.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.failed = true
		r.rest = nil
		return nil
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) uint8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) time() time.Time {
	return postgresEpoch.Add(time.Duration(int64(r.uint64())) * time.Microsecond)
}

func (r *reader) string() string {
	for i, c := range r.rest {
		if c == 0 {
			text := string(r.rest[:i])
			r.rest = r.rest[i+1:]
			return text
		}
	}
	r.failed = true
	r.rest = nil
	return ""
}

// count reads the number of columns, which cannot exceed the bytes that follow.
func (r *reader) count() int {
	b := r.take(2)
	if b == nil {
		return 0
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > len(r.rest) {
		r.failed = true
		return 0
	}
	return n
}

func (r *reader) expect(want byte) {
	if r.uint8() != want {
		r.failed = true
	}
}

// tuple reads a row into the columns it is given, so that rows cost no allocation.
func (r *reader) tuple(columns []tupleColumn) []tupleColumn {
	columns = columns[:0]
	for range r.count() {
		c := tupleColumn{kind: r.uint8()}
		switch c.kind {
		case tupleNull, tupleUnchanged:
		case tupleText:
			c.text = r.take(int(r.uint32()))
		default:
			r.failed = true
			return columns
		}
		columns = append(columns, c)
	}
	return columns
}

func (r *reader) finish(kind byte) error {
	if r.failed || len(r.rest) > 0 {
		return fmt.Errorf("%w: message %q is too short, too long or inconsistent", errMalformed, kind)
	}
	return nil
}
