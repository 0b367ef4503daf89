package replication

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
)

var samples = map[string]wire{
	"begin":            beginMsg(7, 100),
	"commit":           commitMsg(100, 140),
	"relation":         flagRelation(),
	"insert":           insertMsg("1", "a", null, "{}", "1", "f"),
	"update":           updateMsg(0, nil, []string{"1", "a", null, unchanged, "1", "f"}),
	"update of key":    updateMsg('K', []string{"1", null}, []string{"2", "a"}),
	"update with full": updateMsg('O', []string{"1", "a"}, []string{"1", unchanged}),
	"delete":           deleteMsg("1", null, null, null, null, null),
	"truncate":         truncateMsg(relFlag, relOther),
	"origin":           wire{kindOrigin}.u64(1).str("elsewhere"),
	"type":             wire{kindType}.u32(9).str("public").str("mood"),
	"empty value":      insertMsg("", ""),
}

func TestDecodeAgreesWithPglogrepl(t *testing.T) {
	t.Parallel()
	for name, sample := range samples {
		t.Run(name, func(t *testing.T) { compareDecoders(t, sample) })
	}
}

// Every prefix of a message and every message with something behind it is malformed.
func TestDecodeRefusesTruncatedAndPadded(t *testing.T) {
	t.Parallel()
	for name, sample := range samples {
		if sample[0] == kindOrigin || sample[0] == kindType {
			continue // they are not looked at
		}
		var m message
		for n := range sample {
			if err := m.decode(sample[:n]); !errors.Is(err, errMalformed) {
				t.Errorf("%s cut to %d bytes: %v", name, n, err)
			}
		}
		if err := m.decode(append(bytes.Clone(sample), 0)); !errors.Is(err, errMalformed) {
			t.Errorf("%s with a byte too much: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) { // F76
	for _, sample := range samples {
		f.Add([]byte(sample))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		compareDecoders(t, data)
		a := newAssembler("public", 1<<20)
		for _, before := range []wire{flagRelation(), beginMsg(1, 1)} {
			if _, _, err := a.handle(before); err != nil {
				t.Fatal(err)
			}
		}
		_, _, _ = a.handle(data) // must not panic
	})
}

// compareDecoders holds our decoder against pglogrepl: whatever ours accepts, the other one reads the same. The other one panics where ours refuses.
func compareDecoders(t *testing.T, data []byte) {
	t.Helper()
	var m message
	if m.decode(data) != nil {
		return
	}
	if m.kind == kindOrigin || m.kind == kindType || m.kind == kindMessage || m.kind == kindAbort {
		return
	}
	parsed, err := pglogrepl.Parse(data)
	if err != nil && m.withoutColumns() {
		return // a table may have no columns; pglogrepl takes its rows for too short
	}
	if err != nil {
		t.Fatalf("pglogrepl refuses what we accept: %v", err)
	}
	switch p := parsed.(type) {
	case *pglogrepl.BeginMessage:
		same(t, m.xid == p.Xid && uint64(m.commitLSN) == uint64(p.FinalLSN) && sameTime(m.time, p.CommitTime))
	case *pglogrepl.CommitMessage:
		same(t, uint64(m.commitLSN) == uint64(p.CommitLSN) && uint64(m.endLSN) == uint64(p.TransactionEndLSN))
	case *pglogrepl.RelationMessage:
		same(t, m.relation.oid == p.RelationID && m.relation.name == p.RelationName && m.relation.namespace == p.Namespace &&
			len(m.relation.columns) == len(p.Columns))
		for i, c := range p.Columns {
			same(t, m.relation.columns[i] == relationColumn{c.Name, c.DataType, c.TypeModifier})
		}
	case *pglogrepl.InsertMessage:
		same(t, m.oid == p.RelationID && sameTuple(m.new, p.Tuple))
	case *pglogrepl.UpdateMessage:
		same(t, m.oid == p.RelationID && m.oldKind == p.OldTupleType && sameTuple(m.new, p.NewTuple))
		same(t, m.oldKind == 0 || sameTuple(m.old, p.OldTuple))
	case *pglogrepl.DeleteMessage:
		same(t, m.oid == p.RelationID && m.oldKind == p.OldTupleType && sameTuple(m.old, p.OldTuple))
	case *pglogrepl.TruncateMessage:
		same(t, len(m.truncated) == len(p.RelationIDs))
		for i, oid := range p.RelationIDs {
			same(t, m.truncated[i] == oid)
		}
	default:
		t.Fatalf("we accept a message that pglogrepl reads as %T", parsed)
	}
}

func (m *message) withoutColumns() bool {
	switch m.kind {
	case kindRelation:
		return len(m.relation.columns) == 0
	case kindInsert, kindUpdate, kindDelete:
		return len(m.new) == 0 || m.oldKind != 0 && len(m.old) == 0
	}
	return false
}

func same(t *testing.T, ok bool) {
	t.Helper()
	if !ok {
		t.Fatal("our decoder and pglogrepl disagree")
	}
}

// pglogrepl computes times by another overflow; only those that occur are compared.
func sameTime(a, b time.Time) bool {
	return a.Equal(b) || a.Year() < 1900 || a.Year() > 2200
}

func sameTuple(ours []tupleColumn, theirs *pglogrepl.TupleData) bool {
	if theirs == nil || len(ours) != len(theirs.Columns) {
		return theirs == nil && len(ours) == 0
	}
	for i, c := range theirs.Columns {
		if ours[i].kind != c.DataType || !bytes.Equal(ours[i].text, c.Data) {
			return false
		}
	}
	return true
}

func TestDecodeRowsWithoutAllocations(t *testing.T) {
	row := insertMsg("1", "a", null, "{}", "1", "f")
	var m message
	if err := m.decode(row); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = m.decode(row) }); n > 0 {
		t.Errorf("%v allocations per row", n)
	}
}

// A streamed row costs its key and shares of larger pieces; a transaction of one row a little more. cachewriter's TestPlanAllocations has the rest of the way.
func TestAssembleAllocations(t *testing.T) {
	a := newAssembler("public", 1<<30)
	handle := func(m wire) {
		if _, _, err := a.handle(m); err != nil {
			t.Fatal(err)
		}
	}
	begin, end := beginMsg(1, 100), commitMsg(100, 140)
	row := insertMsg("123456", "a-flag", null, `{"groups": []}`, "42", "f")
	handle(begin)
	handle(flagRelation())
	if n := testing.AllocsPerRun(1000, func() { handle(row) }); n > 1 {
		t.Errorf("%v allocations per row of a large transaction", n)
	}
	handle(end)
	n := testing.AllocsPerRun(1000, func() {
		handle(begin)
		handle(row)
		handle(end)
	})
	if n > 2 {
		t.Errorf("%v allocations per transaction of one row", n)
	}
}

func BenchmarkAssembleRow(b *testing.B) {
	a := newAssembler("public", 1<<40)
	for _, before := range []wire{flagRelation(), beginMsg(1, 1)} {
		if _, _, err := a.handle(before); err != nil {
			b.Fatal(err)
		}
	}
	row := insertMsg("123456", "a-flag", "2026-01-01 00:00:00+00", `{"groups": [{"properties": [], "rollout_percentage": 50}]}`, "42", "f")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := a.handle(row); err != nil {
			b.Fatal(err)
		}
		if len(a.tx.Changes) == 1000 {
			a.tx.Changes = a.tx.Changes[:0]
		}
	}
}
