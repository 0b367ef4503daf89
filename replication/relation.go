package replication

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/everflag/everflag/internal/change"
)

// servedColumn is a column of a source table that is cached.
type servedColumn struct {
	index int // among the columns of the source's tuples
	name  string
	kind  change.Kind
}

// layout says how the tuples of a table, as it is defined at one point of the stream or in one snapshot, become rows. Both ways into the cache use it.
type layout struct {
	binding *binding
	columns []servedColumn
	read    []relationColumn // columns that have a bearing, in the order of the table
	width   int              // columns per tuple

	key, team, parent, hidden int // indexes; -1 = none

	// signature changes with every change of the definition that matters.
	signature string

	// Room for the columns and texts of rows, owned by whoever turns tuples into rows. See served.
	room  []change.Column
	texts []byte
}

// newLayout maps columns by name. The oid is part of the signature: a table that was dropped and created again holds other rows.
func newLayout(b *binding, oid uint32, columns []relationColumn) *layout {
	l := &layout{binding: b, width: len(columns), key: -1, team: -1, parent: -1, hidden: -1}
	var signature strings.Builder
	fmt.Fprintf(&signature, "%s %d", b.table.Name, oid)
	for i, c := range columns {
		if !b.reads(c.name) {
			continue
		}
		l.read = append(l.read, c)
		fmt.Fprintf(&signature, ", %s %d/%d", c.name, c.typeOID, c.typmod)
		if kind, ok := b.serves(c.name, c.typeOID); ok {
			l.columns = append(l.columns, servedColumn{index: i, name: c.name, kind: kind})
		}
		for _, role := range [...]struct {
			column string
			index  *int
		}{{b.key, &l.key}, {b.team, &l.team}, {b.parent, &l.parent}, {b.hidden, &l.hidden}} {
			if role.column == c.name {
				*role.index = i
			}
		}
	}
	l.signature = signature.String()
	return l
}

// missing names a column without which rows cannot be placed; empty if there is none.
func (l *layout) missing() string {
	b := l.binding
	switch {
	case l.key < 0:
		return b.key
	case b.team != "" && l.team < 0:
		return b.team
	case b.parent != "" && l.parent < 0:
		return b.parent
	}
	return ""
}

// upsert turns a tuple into a change: a Delete if the row counts as absent. The tuple is copied. A reason means that the tuple cannot be placed.
func (l *layout) upsert(tuple []tupleColumn) (c change.Change, reason string) {
	if len(tuple) != l.width {
		return c, fmt.Sprintf("a row of %s has %d columns instead of %d", l.binding.table.Name, len(tuple), l.width)
	}
	key, ok := keyOf(tuple, l.key)
	if !ok {
		return c, fmt.Sprintf("a row of %s has no key", l.binding.table.Name)
	}
	c.Row = change.Row{Table: l.binding.table, Key: key}
	placed, reason := l.place(&c.Row, tuple)
	if reason != "" {
		return c, reason
	}
	if !placed || l.hides(tuple) {
		c.Op = change.Delete
		return c, ""
	}
	c.Row.Columns = l.served(tuple)
	return c, ""
}

// place finds the row's team or parent; false if it has none, so that it cannot be served.
func (l *layout) place(row *change.Row, tuple []tupleColumn) (placed bool, reason string) {
	index := max(l.team, l.parent)
	if index < 0 {
		return false, fmt.Sprintf("%s has no column %q", l.binding.table.Name, l.missing())
	}
	column := tuple[index]
	if column.kind != tupleText {
		return false, ""
	}
	if l.parent >= 0 {
		row.Parent = string(column.text)
		return true, ""
	}
	team, err := parseTeam(column.text)
	if err != nil {
		return false, fmt.Sprintf("a row of %s has %v", l.binding.table.Name, err)
	}
	row.Team = team
	return true, ""
}

func (l *layout) hides(tuple []tupleColumn) bool {
	return l.hidden >= 0 && tuple[l.hidden].kind == tupleText && string(tuple[l.hidden].text) == "t"
}

// How much room is made for the columns and texts of rows at once.
const (
	columnsAtOnce = 128
	textsAtOnce   = 8 << 10
)

// served copies the served columns. Rows that follow each other share pieces of memory, for allocations are a large part of what a row costs; a piece goes
// with the last of them.
func (l *layout) served(tuple []tupleColumn) []change.Column {
	size := 0
	for _, s := range l.columns {
		size += len(tuple[s.index].text)
	}
	if cap(l.texts)-len(l.texts) < size {
		l.texts = make([]byte, 0, max(size, textsAtOnce))
	}
	first, n := len(l.room), len(l.columns)
	if cap(l.room)-first < n {
		l.room, first = make([]change.Column, 0, max(n, columnsAtOnce)), 0
	}
	l.room = l.room[:first+n]
	columns := l.room[first : first+n : first+n]
	for i, s := range l.columns {
		column := change.Column{Name: s.name, Kind: s.kind}
		switch from := tuple[s.index]; from.kind {
		case tupleNull:
			column.State = change.Null
		case tupleUnchanged:
			column.State = change.Unchanged
		default:
			start := len(l.texts)
			l.texts = append(l.texts, from.text...)
			column.Text = l.texts[start:len(l.texts):len(l.texts)]
		}
		columns[i] = column
	}
	return columns
}

// equal reports whether two tuples agree in everything that is read. It needs both whole, as REPLICA IDENTITY FULL sends them.
func (l *layout) equal(a, b []tupleColumn) bool {
	same := func(i int) bool { return i < 0 || a[i].kind == b[i].kind && bytes.Equal(a[i].text, b[i].text) }
	for _, s := range l.columns {
		if !same(s.index) {
			return false
		}
	}
	return same(l.key) && same(l.team) && same(l.parent) && same(l.hidden)
}

// keyOf is the text of a column that identifies something. Only fixed-width types do, so that it is never unchanged in a new tuple.
func keyOf(tuple []tupleColumn, index int) (string, bool) {
	if index < 0 || index >= len(tuple) || tuple[index].kind != tupleText {
		return "", false
	}
	return string(tuple[index].text), true
}

// parseTeam reads an integer without a detour through a string, since it is done for every row.
func parseTeam(text []byte) (int64, error) {
	digits, negative := text, false
	if len(text) > 0 && text[0] == '-' {
		digits, negative = text[1:], true
	}
	if len(digits) == 0 || len(digits) > 18 {
		return 0, fmt.Errorf("team %q, which is no integer of up to 18 digits", text)
	}
	team := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("team %q, which is no integer of up to 18 digits", text)
		}
		team = 10*team + int64(c-'0')
	}
	if negative {
		team = -team
	}
	return team, nil
}
