package replication

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/everflag/everflag/internal/change"
)

// fakeSink is a cache in memory that asserts what replication owes to every cache: order, no gaps it could know of, a checkpoint that never falls.
type fakeSink struct {
	t testing.TB

	mu    *sync.Mutex // shared by all sinks of one cache
	cache *fakeCache
	epoch int // of this sink; the cache's differs if somebody else has taken over
	calls map[string]int

	// before is asked at every call: apply tells whether the call takes effect, err what it answers. "Failed but did persist" is (true, err).
	before func(op string) (apply bool, err error)
	onTeam func(team int64) // for each team that a copy yields
	frozen <-chan struct{}  // calls wait for it; nil = none do
}

// fakeCache is what survives a replicator.
type fakeCache struct {
	position change.Position
	epoch    int
	writes   int
	mixed    bool                            // some transaction was not applied row by row, and no exact copy has completed since
	teams    map[int64]map[string]fakeRecord // by entity and key
	history  []string
	onChange func() // called with the lock held
}

type fakeRecord struct {
	order  string
	values map[string]string
}

func newFakeCache() *fakeCache { return &fakeCache{teams: map[int64]map[string]fakeRecord{}} }

func newFakeSink(t testing.TB, cache *fakeCache) *fakeSink {
	return &fakeSink{t: t, mu: &sync.Mutex{}, cache: cache, calls: map[string]int{}}
}

// sharing makes the sink another client of the same cache.
func (f *fakeSink) sharing(other *fakeSink) *fakeSink {
	f.mu = other.mu
	return f
}

// freeze lets all further calls wait.
func (f *fakeSink) freeze(until <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = until
}

// lock waits while the sink is frozen.
func (f *fakeSink) lock() {
	f.mu.Lock()
	if until := f.frozen; until != nil {
		f.mu.Unlock()
		<-until
		f.mu.Lock()
	}
}

var errFake = errors.New("the fake cache fails on purpose")

// enter must be called with the lock held.
func (f *fakeSink) enter(op string) (apply bool, err error) {
	f.calls[op]++
	if f.before != nil {
		return f.before(op)
	}
	return true, nil
}

func (f *fakeSink) fenced() bool { return f.epoch != f.cache.epoch }

func (f *fakeSink) Acquire(context.Context) (change.Position, error) {
	f.lock()
	defer f.mu.Unlock()
	apply, err := f.enter("acquire")
	if apply {
		f.cache.epoch++
		f.epoch = f.cache.epoch
	}
	f.cache.position.Teams = len(f.cache.teams)
	return f.cache.position, err
}

func (f *fakeSink) Confirm(_ context.Context, source change.Source) error {
	f.lock()
	defer f.mu.Unlock()
	apply, err := f.enter("confirm")
	if f.fenced() {
		return change.ErrFenced
	}
	if apply {
		f.cache.position.Source = source
	}
	return err
}

func (f *fakeSink) Beat(_ context.Context, fresh bool) error {
	f.lock()
	defer f.mu.Unlock()
	op := "beat"
	if fresh {
		op = "fresh"
	}
	apply, err := f.enter(op)
	if f.fenced() {
		return change.ErrFenced
	}
	if apply {
		f.cache.writes++
	}
	return err
}

func (f *fakeSink) Mark(_ context.Context, reason string) error {
	f.lock()
	defer f.mu.Unlock()
	apply, err := f.enter("mark")
	if f.fenced() {
		return change.ErrFenced
	}
	if apply {
		f.cache.position.Reconcile = reason
		f.cache.history = append(f.cache.history, "mark "+reason)
	}
	return err
}

func (f *fakeSink) Apply(_ context.Context, b change.Batch) (string, error) {
	f.lock()
	defer f.mu.Unlock()
	apply, err := f.enter("apply")
	if f.fenced() {
		return "", change.ErrFenced
	}
	if apply {
		f.apply(b)
	}
	return f.cache.position.Reconcile, err
}

func (f *fakeSink) apply(b change.Batch) {
	p := &f.cache.position
	if b.Through == p.Checkpoint {
		return // a repetition
	}
	last := p.Checkpoint
	before := p.Reconcile
	if f.cache.mixed && len(b.Txs) > 0 {
		f.t.Errorf("transaction %d comes before the reconcile that %q calls for", b.Txs[0].XID, before)
	}
	for i, tx := range b.Txs {
		if tx.Reconcile != "" && i != len(b.Txs)-1 {
			f.t.Errorf("transactions come behind one that calls for a reconcile")
		}
		if tx.EndLSN <= last || tx.CommitLSN >= tx.EndLSN {
			f.t.Errorf("transaction %d ends at %s, after %s", tx.XID, tx.EndLSN, last)
		}
		last = tx.EndLSN
		if tx.Reconcile != "" {
			p.Reconcile, f.cache.mixed = tx.Reconcile, true
			f.cache.history = append(f.cache.history, "tx "+tx.Reconcile)
			continue
		}
		for _, c := range tx.Changes {
			f.change(c)
		}
	}
	f.cache.mixed = f.cache.mixed || p.Reconcile != before
	if b.Through < last {
		f.t.Errorf("a batch through %s holds a transaction that ends at %s", b.Through, last)
	}
	p.Checkpoint = b.Through
	f.cache.writes++
	if f.cache.onChange != nil {
		f.cache.onChange()
	}
}

func (f *fakeSink) change(c change.Change) {
	id := c.Row.Table.Entity + ":" + c.Row.Key
	old, oldTeam, found := f.find(id)
	if c.OldKey != "" {
		oldID := c.Row.Table.Entity + ":" + c.OldKey
		old, oldTeam, found = f.find(oldID)
		f.remove(oldTeam, oldID)
	}
	if c.Op == change.Delete {
		f.remove(oldTeam, id)
		f.moveChildren(c.Row) // it may only be hidden, and have moved
		return
	}
	team := c.Row.Team
	if c.Row.Table.Parent != "" {
		_, parentTeam, ok := f.find(c.Row.Table.Parent + ":" + c.Row.Parent)
		if !ok {
			f.cache.position.Reconcile = "missing parent"
			return
		}
		team = parentTeam
	}
	record := render(c.Row)
	for _, column := range c.Row.Columns {
		if column.State != change.Unchanged {
			continue
		}
		if !found {
			f.cache.position.Reconcile = "missing record"
			return
		}
		record.values[column.Name] = old.values[column.Name]
	}
	f.remove(oldTeam, id)
	f.put(team, id, record)
	f.moveChildren(c.Row)
}

func (f *fakeSink) put(team int64, id string, record fakeRecord) {
	if f.cache.teams[team] == nil {
		f.cache.teams[team] = map[string]fakeRecord{}
	}
	f.cache.teams[team][id] = record
}

// moveChildren moves what belongs to a flag to the team that the flag is in, or is hidden in.
func (f *fakeSink) moveChildren(flag change.Row) {
	if flag.Table.Entity != "flag" || flag.Team == 0 {
		return
	}
	for team, records := range maps.Clone(f.cache.teams) {
		for id, record := range maps.Clone(records) {
			if team != flag.Team && record.values["feature_flag_id"] == "="+flag.Key {
				f.remove(team, id)
				f.put(flag.Team, id, record)
			}
		}
	}
}

func (f *fakeSink) find(id string) (fakeRecord, int64, bool) {
	for team, records := range f.cache.teams {
		if record, ok := records[id]; ok {
			return record, team, true
		}
	}
	return fakeRecord{}, 0, false
}

func (f *fakeSink) remove(team int64, id string) {
	delete(f.cache.teams[team], id)
	if len(f.cache.teams[team]) == 0 {
		delete(f.cache.teams, team)
	}
}

// render keeps NULL ("null") apart from text ("=text").
func render(row change.Row) fakeRecord {
	r := fakeRecord{values: map[string]string{}}
	var order []string
	for _, c := range row.Columns {
		order = append(order, fmt.Sprintf("%s/%d", c.Name, c.Kind))
		r.values[c.Name] = "null"
		if c.State == change.Value {
			r.values[c.Name] = "=" + string(c.Text)
		}
	}
	r.order = strings.Join(order, " ")
	return r
}

func (f *fakeSink) Reconcile(_ context.Context, c change.Copy) (change.ReconcileResult, error) {
	var result change.ReconcileResult
	copied := map[int64]map[string]fakeRecord{}
	last := int64(-1 << 62)
	for team, err := range c.Teams {
		if err != nil {
			return result, err
		}
		if team.Team <= last {
			f.t.Errorf("team %d comes after %d", team.Team, last)
		}
		last = team.Team
		if f.onTeam != nil {
			f.onTeam(team.Team)
		}
		result.Teams++
		copied[team.Team] = map[string]fakeRecord{}
		for _, row := range team.Rows {
			result.Rows++
			copied[team.Team][row.Table.Entity+":"+row.Key] = render(row)
		}
	}
	f.lock()
	defer f.mu.Unlock()
	op := "provisional"
	if c.Exact {
		op = "exact"
	}
	apply, err := f.enter(op)
	if f.fenced() {
		return result, change.ErrFenced
	}
	if !apply {
		return result, err
	}
	p := &f.cache.position
	if c.At < p.Checkpoint {
		f.t.Errorf("a copy of %s after checkpoint %s", c.At, p.Checkpoint)
	}
	for team, records := range copied {
		if !sameTeam(records, f.cache.teams[team]) {
			result.TeamsWritten++
		}
	}
	for team := range f.cache.teams {
		if copied[team] == nil {
			result.TeamsGone++
		}
	}
	f.cache.teams = copied
	f.cache.writes++
	f.cache.history = append(f.cache.history, op+" "+c.Reason)
	if c.Exact {
		p.Checkpoint, p.Source, p.Complete, p.Reconcile = c.At, c.Source, true, ""
		f.cache.mixed = false
	}
	if f.cache.onChange != nil {
		f.cache.onChange()
	}
	return result, err
}

func (f *fakeSink) Observe(context.Context) (change.Observation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.enter("observe")
	return change.Observation{Position: f.cache.position, Pulse: fmt.Sprint(f.cache.epoch, f.cache.writes)}, err
}

// position reads the cache.
func (f *fakeSink) position() change.Position {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cache.position
}

// snapshot copies the teams.
func (f *fakeSink) snapshot() map[int64]map[string]fakeRecord {
	f.mu.Lock()
	defer f.mu.Unlock()
	teams := map[int64]map[string]fakeRecord{}
	for team, records := range f.cache.teams {
		teams[team] = maps.Clone(records)
	}
	return teams
}

// hook sets what is asked at every call.
func (f *fakeSink) hook(before func(op string) (bool, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

// edit changes the cache behind the replicator's back.
func (f *fakeSink) edit(change func(*fakeCache)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.cache)
}
