package cachewriter

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/everflag/everflag/internal/change"
)

// model is a source in memory: tables of rows of Go values. It commits transactions and yields copies as replication would, and it says itself what the
// cache must hold, with encoding/json and no code of the writer.
type model struct {
	tables map[string]map[string]modelRow // entity → primary key → row
	lsn    change.LSN
	xid    uint32
}

// modelRow is a row by column. Values are string, bool, int, nil or json.RawMessage; "secret" columns are strings that the cache holds digested.
type modelRow map[string]any

const (
	team, flag, cohort, config, context_, flagContext, experiment = "team", "flag", "cohort", "config", "context", "flagcontext", "experiment"
)

var modelTables = map[string]*change.Table{
	team: {Name: "posthog_team", Entity: team}, flag: {Name: "posthog_featureflag", Entity: flag}, cohort: {Name: "posthog_cohort", Entity: cohort},
	config: {Name: "feature_flags_teamfeatureflagsconfig", Entity: config}, context_: {Name: "posthog_evaluationcontext", Entity: context_},
	flagContext: {Name: "posthog_featureflagevaluationcontext", Entity: flagContext, Parent: flag},
	experiment:  {Name: "posthog_experiment", Entity: experiment, Parent: flag},
}

func newModel() *model {
	m := &model{tables: map[string]map[string]modelRow{}, lsn: 0x1000}
	for entity := range modelTables {
		m.tables[entity] = map[string]modelRow{}
	}
	return m
}

// begin starts a transaction.
func (m *model) begin() *modelTx {
	m.xid++
	return &modelTx{m: m, tx: &change.Tx{XID: m.xid}}
}

// next returns a position with nothing committed between.
func (m *model) next() change.LSN {
	m.lsn += 0x38
	return m.lsn
}

type modelTx struct {
	m  *model
	tx *change.Tx
}

// put inserts or updates a row: the given columns change, the others of an existing row stay. unchanged names columns that the log leaves out.
func (t *modelTx) put(entity, key string, values modelRow, unchanged ...string) *modelTx {
	row := maps.Clone(t.m.tables[entity][key])
	if row == nil {
		row = modelRow{}
	}
	maps.Copy(row, values)
	t.m.tables[entity][key] = row
	return t.upsert(entity, key, "", row, unchanged)
}

// rename changes a primary key.
func (t *modelTx) rename(entity, from, to string, values modelRow, unchanged ...string) *modelTx {
	row := maps.Clone(t.m.tables[entity][from])
	maps.Copy(row, values)
	delete(t.m.tables[entity], from)
	t.m.tables[entity][to] = row
	return t.upsert(entity, to, from, row, unchanged)
}

func (t *modelTx) upsert(entity, key, oldKey string, row modelRow, unchanged []string) *modelTx {
	if hidden, _ := row["deleted"].(bool); hidden {
		return t.change(change.Change{Op: change.Delete, Row: change.Row{Table: modelTables[entity], Key: key, Team: teamOf(entity, key, row)}, OldKey: oldKey})
	}
	return t.change(change.Change{Op: change.Upsert, Row: changeRow(entity, key, row, unchanged), OldKey: oldKey})
}

func (t *modelTx) remove(entity, key string) *modelTx {
	delete(t.m.tables[entity], key)
	return t.change(change.Change{Op: change.Delete, Row: change.Row{Table: modelTables[entity], Key: key}})
}

func (t *modelTx) change(c change.Change) *modelTx {
	t.tx.Changes = append(t.tx.Changes, c)
	t.tx.Bytes += 50
	for _, column := range c.Row.Columns {
		t.tx.Bytes += len(column.Text)
	}
	return t
}

// commit ends the transaction and returns it.
func (t *modelTx) commit() *change.Tx {
	t.tx.CommitLSN = t.m.next()
	t.tx.EndLSN = t.m.next()
	t.tx.CommitTime = time.UnixMicro(1_790_000_000_000_000 + int64(t.tx.EndLSN)).UTC()
	return t.tx
}

// changeRow is the row as the log or a copy has it.
func changeRow(entity, key string, row modelRow, unchanged []string) change.Row {
	r := change.Row{Table: modelTables[entity], Key: key, Columns: []change.Column{keyColumn(entity, key)}}
	for _, name := range slices.Sorted(maps.Keys(row)) {
		column := change.Column{Name: name}
		switch v := row[name].(type) {
		case nil:
			column.State = change.Null
		case bool:
			column.Kind, column.Text = change.Bool, []byte(strconv.FormatBool(v)[:1])
		case int:
			column.Kind, column.Text = change.Number, []byte(strconv.Itoa(v))
		case json.RawMessage:
			column.Kind, column.Text = change.JSON, v
		case string:
			column.Text = []byte(v)
			if strings.HasPrefix(name, "secret") {
				column.Kind = change.Secret
			}
		}
		if slices.Contains(unchanged, name) {
			column.State, column.Text = change.Unchanged, nil
		}
		r.Columns = append(r.Columns, column)
	}
	if modelTables[entity].Parent != "" {
		r.Parent = strconv.Itoa(row["feature_flag_id"].(int))
	} else {
		r.Team = teamOf(entity, key, row)
	}
	return r
}

func keyColumn(entity, key string) change.Column {
	if entity == context_ || entity == flagContext {
		return change.Column{Name: "id", Text: []byte(key)}
	}
	return change.Column{Name: keyName(entity), Kind: change.Number, Text: []byte(key)}
}

func keyName(entity string) string {
	if entity == config {
		return "team_id"
	}
	return "id"
}

func teamOf(entity, key string, row modelRow) int64 {
	if entity == team || entity == config {
		n, _ := strconv.ParseInt(key, 10, 64)
		return n
	}
	return int64(row["team_id"].(int))
}

// place returns the team whose hash holds a row, 0 if none does.
func (m *model) place(entity, key string) int64 {
	row := m.tables[entity][key]
	if hidden, _ := row["deleted"].(bool); hidden {
		return 0
	}
	if modelTables[entity].Parent == "" {
		return teamOf(entity, key, row)
	}
	parent, exists := m.tables[flag][strconv.Itoa(row["feature_flag_id"].(int))]
	if !exists {
		return 0
	}
	return int64(parent["team_id"].(int))
}

// copy is an exact copy of the model as of now.
func (m *model) copy(reason string) change.Copy {
	teams := map[int64][]change.Row{}
	for _, entity := range slices.Sorted(maps.Keys(m.tables)) {
		rows := m.tables[entity]
		for _, key := range slices.Sorted(maps.Keys(rows)) {
			if at := m.place(entity, key); at != 0 {
				teams[at] = append(teams[at], changeRow(entity, key, rows[key], nil))
			}
		}
	}
	return change.Copy{Source: testSource, At: m.next(), Exact: true, Reason: reason, Teams: inOrder(teams)}
}

func inOrder(teams map[int64][]change.Row) iter.Seq2[change.TeamRows, error] {
	return func(yield func(change.TeamRows, error) bool) {
		for _, id := range slices.Sorted(maps.Keys(teams)) {
			if !yield(change.TeamRows{Team: id, Rows: teams[id]}, nil) {
				return
			}
		}
	}
}

var testSource = change.Source{
	SystemID: "7301", Timeline: 3, DatabaseOID: 5, PostmasterStart: time.UnixMicro(1_700_000_000_000_001).UTC(), Slot: "everflag", Publication: "everflag",
	Fingerprint: "f1",
}

// image is what a checker sees: team → field → decoded record, and token → team.
type image struct {
	Teams  map[string]map[string]any
	Tokens map[string]string
}

// image says what the cache must hold.
func (m *model) image() image {
	want := image{Teams: map[string]map[string]any{}, Tokens: map[string]string{}}
	for entity, rows := range m.tables {
		for key, row := range rows {
			at := m.place(entity, key)
			if at == 0 {
				continue
			}
			id := strconv.FormatInt(at, 10)
			if want.Teams[id] == nil {
				want.Teams[id] = map[string]any{}
			}
			name := entity + ":" + key
			if entity == team || entity == config {
				name = entity
			}
			want.Teams[id][name] = expected(entity, key, row)
			if token, _ := row["api_token"].(string); entity == team && token != "" {
				want.Tokens[token] = id
			}
		}
	}
	return want
}

// expected is the record of a row as a checker decodes it.
func expected(entity, key string, row modelRow) map[string]any {
	record := map[string]any{keyName(entity): json.Number(key)}
	if entity == context_ || entity == flagContext {
		record["id"] = key
	}
	for name, value := range row {
		switch v := value.(type) {
		case int:
			record[name] = json.Number(strconv.Itoa(v))
		case json.RawMessage:
			record[name] = decode(string(v))
		case string:
			if strings.HasPrefix(name, "secret") {
				digest := sha256.Sum256([]byte(v))
				v = hex.EncodeToString(digest[:])
			}
			record[name] = v
		default:
			record[name] = v
		}
	}
	return record
}

// decode is the checker's own decoder.
func decode(text string) any {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return fmt.Sprintf("%q is not JSON: %v", text, err)
	}
	return value
}
