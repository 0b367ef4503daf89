package replication

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/everflag/everflag/internal/change"
)

// item is one entry of the queue between the receiver and the leader: a transaction, or a position up to which nothing else was committed.
type item struct {
	tx       *change.Tx
	layouts  []*layout // definitions that the stream announced within tx, in order
	memory   int       // what tx holds, about
	position change.LSN
	urgent   bool // the server waits for position to be confirmed
	received time.Time
}

// end is the position that the cache has reached once the item is applied.
func (i item) end() change.LSN {
	if i.tx != nil {
		return i.tx.EndLSN
	}
	return i.position
}

// assembler turns the messages of one stream into transactions. Columns are mapped by the latest Relation message of their table in stream order
// (F45); nothing that it returns aliases the receive buffer.
type assembler struct {
	schema string
	maxTx  int // wire bytes of a transaction that is still kept

	layouts map[uint32]*layout // by OID; nil for tables that are not mirrored
	message message
	tx      *change.Tx // the transaction under way; nil between transactions
	seen    []*layout
	memory  int
}

func newAssembler(schema string, maxTx int) *assembler {
	return &assembler{schema: schema, maxTx: maxTx, layouts: map[uint32]*layout{}}
}

// inTransaction reports whether a Begin has been read without its Commit.
func (a *assembler) inTransaction() bool { return a.tx != nil }

// oversized returns the transaction under way if it is too large to be kept.
func (a *assembler) oversized() *change.Tx {
	if a.tx == nil || a.tx.Bytes <= a.maxTx {
		return nil
	}
	return a.tx
}

// handle reads one pgoutput message. ok is true if it ended a transaction, which done then is.
func (a *assembler) handle(payload []byte) (done item, ok bool, err error) {
	m := &a.message
	if err := m.decode(payload); err != nil {
		return done, false, err
	}
	switch m.kind {
	case kindBegin:
		if a.tx != nil {
			return done, false, fmt.Errorf("%w: Begin within transaction %d", errMalformed, a.tx.XID)
		}
		a.begin(m)
		return done, false, nil
	case kindRelation:
		a.relation(&m.relation)
		return done, false, nil
	case kindOrigin, kindType, kindMessage, kindAbort:
		return done, false, nil // an abort can only concern a transaction of which version 1 sends nothing (F58)
	}
	if a.tx == nil {
		return done, false, fmt.Errorf("%w: %q outside of a transaction", errMalformed, m.kind)
	}
	if m.kind == kindCommit {
		done, err = a.commit(m)
		return done, err == nil, err
	}
	return done, false, a.change(m, len(payload))
}

// begin starts a transaction. Most have one change, which shares its allocation.
func (a *assembler) begin(m *message) {
	one := new(struct {
		tx    change.Tx
		first [1]change.Change
	})
	one.tx = change.Tx{XID: m.xid, CommitLSN: m.commitLSN, CommitTime: m.time, Changes: one.first[:0]}
	a.tx = &one.tx
}

// relation notes the definition of a table. It holds for the messages that follow.
func (a *assembler) relation(m *relationMessage) {
	b := bindingOf(m.name)
	if b == nil || m.namespace != a.schema {
		a.layouts[m.oid] = nil
		return
	}
	l := newLayout(b, m.oid, m.columns)
	a.layouts[m.oid] = l
	a.seen = append(a.seen, l)
}

func (a *assembler) commit(m *message) (item, error) {
	tx := a.tx
	if m.commitLSN != tx.CommitLSN || m.endLSN <= m.commitLSN {
		return item{}, fmt.Errorf("%w: Commit at %s, ending at %s, of a transaction that was to commit at %s", errMalformed, m.commitLSN, m.endLSN, tx.CommitLSN)
	}
	tx.EndLSN = m.endLSN
	done := item{tx: tx, layouts: a.seen, memory: a.memory}
	if len(tx.Changes) == 0 && tx.Reconcile == "" && len(a.seen) == 0 {
		done = item{position: tx.EndLSN} // nothing in it concerns us: it must not overtake its predecessors, though (F5)
	}
	a.tx, a.seen, a.memory = nil, nil, 0
	return done, nil
}

// change adds a row change or a truncation to the transaction.
func (a *assembler) change(m *message, size int) error {
	if m.kind == kindTruncate {
		return a.truncate(m)
	}
	l, known := a.layouts[m.oid]
	if !known {
		return fmt.Errorf("%w: a change of relation %d, which was never described", errMalformed, m.oid)
	}
	if l == nil {
		return nil
	}
	a.tx.Bytes += size
	if a.tx.Reconcile != "" {
		return nil
	}
	if a.tx.Bytes > a.maxTx {
		a.giveUp(fmt.Sprintf("transaction %d changes more than %d bytes", a.tx.XID, a.maxTx))
		return nil
	}
	c, skip, reason := l.change(m)
	switch {
	case reason != "":
		a.giveUp(reason)
	case !skip:
		a.tx.Changes = append(a.tx.Changes, c)
		a.memory += size + rowOverhead + columnOverhead*len(c.Row.Columns)
	}
	return nil
}

// What a change costs in memory beyond its texts, about.
const (
	rowOverhead    = 160
	columnOverhead = 48
)

// giveUp notes that the transaction cannot be applied row by row, and keeps nothing of it.
func (a *assembler) giveUp(reason string) {
	a.tx.Reconcile = reason
	a.tx.Changes = nil
	a.memory = 0
}

func (a *assembler) truncate(m *message) error {
	var tables []string
	for _, oid := range m.truncated {
		l, known := a.layouts[oid]
		if !known {
			return fmt.Errorf("%w: TRUNCATE of relation %d, which was never described", errMalformed, oid)
		}
		if l != nil {
			tables = append(tables, l.binding.table.Name)
		}
	}
	if len(tables) > 0 && a.tx.Reconcile == "" {
		slices.Sort(tables)
		a.giveUp("TRUNCATE of " + strings.Join(tables, ", "))
	}
	return nil
}

// change turns a row message into a change. skip means that nothing that is served has changed, as far as the message tells.
func (l *layout) change(m *message) (c change.Change, skip bool, reason string) {
	switch m.kind {
	case kindInsert:
		c, reason = l.upsert(m.new)
		return c, false, reason
	case kindDelete:
		key, ok := l.oldKey(m)
		if !ok {
			return c, false, "the replica identity of " + l.binding.table.Name + " does not carry the primary key"
		}
		return change.Change{Op: change.Delete, Row: change.Row{Table: l.binding.table, Key: key}}, false, ""
	}
	if m.oldKind == 'O' && len(m.old) == l.width && len(m.new) == l.width {
		fillUnchanged(m.new, m.old)
		skip = l.equal(m.new, m.old)
	}
	c, reason = l.upsert(m.new)
	if old, ok := l.oldKey(m); ok && old != c.Row.Key {
		c.OldKey = old
	}
	return c, skip, reason
}

// oldKey is the primary key before the change, if the message carries it.
func (l *layout) oldKey(m *message) (string, bool) {
	if m.oldKind == 0 || len(m.old) != l.width {
		return "", false
	}
	return keyOf(m.old, l.key)
}

// fillUnchanged completes a new row from a whole old one.
func fillUnchanged(row, old []tupleColumn) {
	for i := range row {
		if row[i].kind == tupleUnchanged && old[i].kind == tupleText {
			row[i] = old[i]
		}
	}
}
