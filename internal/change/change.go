// Package change guarantees that replication and cachewriter speak of the same things: committed transactions, rows reduced to the columns that
// are served, and log positions. It holds no behaviour beyond that vocabulary and imports only the standard library.
package change

import "time"

// Table is what both sides must know of a watched table: its entity in the cache and how its rows find their team. One value exists per binding;
// rows point to it.
type Table struct {
	Name   string // as in the source, without schema, e.g. "posthog_featureflag"
	Entity string // as in the cache, e.g. "flag"; one of the flagcache.Entity… constants

	// Parent is the entity through which a row finds its team, where the table has no team column of its own: Row.Parent is then that entity's
	// primary key. Empty for tables with a team column.
	Parent string
}

// State tells the three things apart that a column of a change can be.
type State uint8

// The states of a column. A column that the table lacks is not in Row.Columns at all.
const (
	Value     State = iota // Column.Text is the value
	Null                   // SQL NULL
	Unchanged              // not sent: an out-of-line (TOAST) value that the UPDATE left as it was
)

// Kind says how a column's text becomes JSON.
type Kind uint8

// The kinds of column text, as the type output functions of Postgres print it.
const (
	Text   Kind = iota // any text: becomes a JSON string
	Bool               // "t" or "f": becomes true or false
	Number             // int2, int4, int8, numeric: verbatim, but NaN and the infinities become JSON strings
	JSON               // json, jsonb: verbatim
	Secret             // becomes a JSON string of the hexadecimal SHA-256 of the text
)

// Column is one served column of a row.
type Column struct {
	Name  string
	Kind  Kind
	State State
	Text  []byte // set if State is Value; owned by the Row
}

// Row is one row of a watched table, reduced to its served columns.
type Row struct {
	Table   *Table
	Key     string   // primary key, as text
	Team    int64    // the row's team; 0 if the table has a Parent
	Parent  string   // primary key of the parent entity; empty if the table has none
	Columns []Column // in the order of the source table
}

// Op is the kind of a Change.
type Op uint8

// The operations. An INSERT or UPDATE that hides a row (deleted = true) arrives as a Delete. If it is hidden and not gone, Row.Team may be set to the
// team it is hidden in: its children stay with it.
const (
	Upsert Op = iota // Row is complete but for Unchanged columns
	Delete           // Row.Table and Row.Key are set; a row that is only hidden has its Team or Parent, too
)

// Change is one row change of a transaction.
type Change struct {
	Op     Op
	Row    Row
	OldKey string // if an UPDATE changed the primary key: the key before, also of a row that is hidden now; else empty
}

// Tx is one committed transaction, in commit order. It is immutable once it has been handed over.
type Tx struct {
	XID        uint32
	CommitLSN  LSN // start of the commit record
	EndLSN     LSN // first byte after it: the only position that may be acknowledged
	CommitTime time.Time
	Changes    []Change
	Bytes      int // wire size of the changes, for batch limits

	// Reconcile is set instead of Changes when the transaction cannot be applied row by row (TRUNCATE, a changed relation, too large): the
	// reason, for people. Applying it means to set the reconcile marker together with the checkpoint.
	Reconcile string
}

// TeamRows is all that a consistent copy of the source holds for one team.
type TeamRows struct {
	Team int64
	Rows []Row // no State is Unchanged
}
