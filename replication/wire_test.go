package replication

import (
	"encoding/binary"

	"github.com/everflag/everflag/internal/change"
)

// wire builds pgoutput messages.
type wire []byte

func (w wire) u8(b byte) wire    { return append(w, b) }
func (w wire) u16(n uint16) wire { return binary.BigEndian.AppendUint16(w, n) }
func (w wire) u32(n uint32) wire { return binary.BigEndian.AppendUint32(w, n) }
func (w wire) u64(n uint64) wire { return binary.BigEndian.AppendUint64(w, n) }
func (w wire) str(s string) wire { return append(append(w, s...), 0) }

// xlog is the message on the wire. Its header names the position of the record, which says nothing, and an end of the log far ahead of what was sent (F15).
func (w wire) xlog() []byte {
	return append(wire{copyXLogData}.u64(1<<40).u64(1<<41).u64(0), w...)
}

func beginMsg(xid, at int) wire { return wire{kindBegin}.u64(uint64(at)).u64(1e6).u32(uint32(xid)) }

func commitMsg(at, end int) wire {
	return wire{kindCommit}.u8(0).u64(uint64(at)).u64(uint64(end)).u64(1e6)
}
func insertMsg(v ...string) wire { return wire{kindInsert}.u32(relFlag).u8('N').row(v...) }
func deleteMsg(v ...string) wire { return wire{kindDelete}.u32(relFlag).u8('K').row(v...) }
func truncateMsg(o ...int) wire  { return truncateOf(o) }
func keepaliveMsg(end change.LSN, reply bool) []byte {
	w := wire{copyKeepalive}.u64(uint64(end)).u64(0)
	if reply {
		return w.u8(1)
	}
	return w.u8(0)
}

func truncateOf(oids []int) wire {
	w := wire{kindTruncate}.u32(uint32(len(oids))).u8(0)
	for _, oid := range oids {
		w = w.u32(uint32(oid))
	}
	return w
}

// updateMsg has an old tuple if there is one.
func updateMsg(oldKind byte, old, row []string) wire {
	w := wire{kindUpdate}.u32(relFlag)
	if oldKind != 0 {
		w = w.u8(oldKind).row(old...)
	}
	return w.u8('N').row(row...)
}

// row encodes "\x00" as NULL and "\x01" as unchanged.
func (w wire) row(values ...string) wire {
	w = w.u16(uint16(len(values)))
	for _, v := range values {
		switch v {
		case null:
			w = w.u8(tupleNull)
		case unchanged:
			w = w.u8(tupleUnchanged)
		default:
			w = append(w.u8(tupleText).u32(uint32(len(v))), v...)
		}
	}
	return w
}

const (
	null      = "\x00"
	unchanged = "\x01"

	relFlag  = 17
	relOther = 18
)

type col struct {
	name string
	oid  uint32
}

func relationMsg(oid uint32, schema, table string, columns ...col) wire {
	w := wire{kindRelation}.u32(oid).str(schema).str(table).u8('d').u16(uint16(len(columns)))
	for _, c := range columns {
		w = w.u8(0).str(c.name).u32(c.oid).u32(0xFFFFFFFF)
	}
	return w
}

// flagRelation has an unserved column in its midst.
func flagRelation() wire {
	return relationMsg(relFlag, "public", parentTable, col{"id", 23}, col{"key", 1043}, col{"last_called_at", 1184}, col{"filters", 3802},
		col{"team_id", 23}, col{"deleted", 16})
}
