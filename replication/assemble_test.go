package replication

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/everflag/everflag/internal/change"
)

// assembled feeds messages and returns the items that come out.
func assembled(t *testing.T, a *assembler, messages ...wire) []item {
	t.Helper()
	var items []item
	for _, m := range messages {
		buffer := append(wire(nil), m...)
		done, ok, err := a.handle(buffer)
		if err != nil {
			t.Fatal(err)
		}
		for i := range buffer {
			buffer[i] = 'X' // the receive buffer is used again: whatever is kept must have been copied
		}
		if ok {
			items = append(items, done)
		}
	}
	return items
}

func assembleTx(t *testing.T, messages ...wire) *change.Tx {
	t.Helper()
	all := append([]wire{beginMsg(7, 100), flagRelation()}, messages...)
	items := assembled(t, newAssembler("public", 1<<20), append(all, commitMsg(100, 140))...)
	if len(items) != 1 || items[0].tx == nil {
		t.Fatalf("got %+v, want one transaction", items)
	}
	return items[0].tx
}

func TestAssembleRowStates(t *testing.T) {
	t.Parallel()
	tx := assembleTx(t, updateMsg(0, nil, []string{"1", "", "2026-01-01", unchanged, "5", null})) // F40
	flag := bindingOf(parentTable).table
	want := []change.Change{{Row: change.Row{Table: flag, Key: "1", Team: 5, Columns: []change.Column{
		{Name: "id", Kind: change.Number, Text: []byte("1")},
		{Name: "key", Kind: change.Text, Text: []byte{}},
		{Name: "filters", Kind: change.JSON, State: change.Unchanged},
		{Name: "team_id", Kind: change.Number, Text: []byte("5")},
		{Name: "deleted", Kind: change.Bool, State: change.Null},
	}}}}
	if diff := cmp.Diff(want, tx.Changes); diff != "" {
		t.Error(diff)
	}
	if tx.XID != 7 || tx.CommitLSN != 100 || tx.EndLSN != 140 { // F2, F11
		t.Errorf("transaction is %+v", tx)
	}
}

func TestAssembleChanges(t *testing.T) {
	t.Parallel()
	row := func(id, deleted string) []string { return []string{id, "a", null, "{}", "5", deleted} }
	for name, test := range map[string]struct {
		message wire
		op      change.Op
		key     string
		oldKey  string
	}{
		"insert":                  {insertMsg(row("1", "f")...), change.Upsert, "1", ""},
		"insert of a hidden row":  {insertMsg(row("1", "t")...), change.Delete, "1", ""},
		"soft delete":             {updateMsg(0, nil, row("1", "t")), change.Delete, "1", ""},
		"delete (F41)":            {deleteMsg("1", null, null, null, null, null), change.Delete, "1", ""},
		"new primary key (F42)":   {updateMsg('K', []string{"1", null, null, null, null, null}, row("2", "f")), change.Upsert, "2", "1"},
		"new key, hidden":         {updateMsg('K', []string{"1", null, null, null, null, null}, row("2", "t")), change.Delete, "2", "1"},
		"full old row, same key":  {updateMsg('O', row("1", "t"), row("1", "f")), change.Upsert, "1", ""},
		"without a team (absent)": {insertMsg("1", "a", null, "{}", null, "f"), change.Delete, "1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tx := assembleTx(t, test.message)
			if len(tx.Changes) != 1 {
				t.Fatalf("got %+v", tx)
			}
			c := tx.Changes[0]
			if c.Op != test.op || c.Row.Key != test.key || c.OldKey != test.oldKey {
				t.Errorf("got op %d key %q old key %q", c.Op, c.Row.Key, c.OldKey)
			}
		})
	}
}

// With REPLICA IDENTITY FULL the message tells that nothing served has changed, and holds the values that were not sent.
func TestAssembleFullIdentity(t *testing.T) {
	t.Parallel()
	old := []string{"1", "a", "2026-01-01", "{}", "5", "f"}
	tx := assembleTx(t,
		updateMsg('O', old, []string{"1", "a", "2026-02-02", unchanged, "5", "f"}),
		updateMsg('O', old, []string{"1", "b", "2026-02-02", unchanged, "5", "f"}))
	if len(tx.Changes) != 1 {
		t.Fatalf("got %d changes, want the one that matters", len(tx.Changes))
	}
	if filters := tx.Changes[0].Row.Columns[2]; filters.State != change.Value || string(filters.Text) != "{}" {
		t.Errorf("filters are %+v", filters)
	}
}

func TestAssembleReconciles(t *testing.T) {
	t.Parallel()
	for want, messages := range map[string][]wire{
		"TRUNCATE of posthog_featureflag": {insertMsg("1", "a", null, "{}", "5", "f"), truncateMsg(relFlag)}, // F43
		"has 2 columns instead of 6":      {insertMsg("1", "a")},
		"has no key":                      {insertMsg(null, "a", null, "{}", "5", "f")},
		"does not carry the primary key":  {deleteMsg(null, "a", null, null, null, null)},
		`has team "x"`:                    {insertMsg("1", "a", null, "{}", "x", "f")},
	} {
		tx := assembleTx(t, messages...)
		if !strings.Contains(tx.Reconcile, want) || tx.Changes != nil {
			t.Errorf("reason is %q with %d changes, want %q and none", tx.Reconcile, len(tx.Changes), want)
		}
	}
}

// F57: a transaction that is too large is noted, not kept.
func TestAssembleOversize(t *testing.T) {
	t.Parallel()
	a := newAssembler("public", 1000)
	assembled(t, a, beginMsg(7, 100), flagRelation())
	for range 100 {
		assembled(t, a, insertMsg("1", "a", null, strings.Repeat("x", 100), "5", "f"))
		if len(a.tx.Changes) > 10 {
			t.Fatalf("%d changes are kept", len(a.tx.Changes))
		}
	}
	items := assembled(t, a, commitMsg(100, 140))
	if tx := items[0].tx; tx.Reconcile != "transaction 7 changes more than 1000 bytes" || tx.Changes != nil {
		t.Errorf("got %+v", tx)
	}
}

// F55: a table of the same name in another schema is another table. F5: a transaction without changes of ours is only a position.
func TestAssembleIgnoresOthers(t *testing.T) {
	t.Parallel()
	other := relationMsg(relOther, "archive", parentTable, col{"id", 23})
	insert := wire{kindInsert}.u32(relOther).u8('N').row("1")
	items := assembled(t, newAssembler("public", 1<<20), beginMsg(7, 100), other, insert, truncateMsg(relOther), commitMsg(100, 140))
	if len(items) != 1 || items[0].tx != nil || items[0].position != 140 {
		t.Errorf("got %+v, want the position 140", items)
	}
}

// F58: 18 may send an unasked stream abort. F45: the latest definition holds.
func TestAssembleTolerates(t *testing.T) {
	t.Parallel()
	abort := wire{kindAbort}.u32(7).u32(8)
	narrow := relationMsg(relFlag, "public", parentTable, col{"team_id", 23}, col{"id", 23})
	a := newAssembler("public", 1<<20)
	items := assembled(t, a, abort, beginMsg(7, 100), flagRelation(), abort, insertMsg("1", "a", null, "{}", "5", "f"), narrow, insertMsg("5", "2"), commitMsg(100, 140))
	tx := items[0].tx
	if len(tx.Changes) != 2 || tx.Changes[1].Row.Key != "2" || tx.Changes[1].Row.Team != 5 {
		t.Errorf("got %+v", tx.Changes)
	}
	if len(items[0].layouts) != 2 {
		t.Errorf("%d definitions were announced, want 2", len(items[0].layouts))
	}
}

func TestAssembleRefuses(t *testing.T) {
	t.Parallel()
	for name, messages := range map[string][]wire{
		"a row outside of a transaction":   {flagRelation(), insertMsg("1")},
		"a row of an undescribed table":    {beginMsg(1, 1), insertMsg("1")},
		"a nested transaction":             {beginMsg(1, 1), beginMsg(2, 2)},
		"another commit than announced":    {beginMsg(1, 1), commitMsg(2, 3)},
		"a commit that ends before itself": {beginMsg(1, 9), commitMsg(9, 9)},
		"truncation of undescribed tables": {beginMsg(1, 1), truncateMsg(1)},
		"an unknown kind":                  {wire{'?'}},
		"nothing":                          {wire{}},
	} {
		a := newAssembler("public", 1<<20)
		var err error
		for _, m := range messages {
			if _, _, err = a.handle(m); err != nil {
				break
			}
		}
		if !errors.Is(err, errMalformed) || !Permanent(err) { // F76
			t.Errorf("%s: %v", name, err)
		}
	}
}
