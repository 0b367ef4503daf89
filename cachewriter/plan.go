package cachewriter

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
)

// plan is the net effect of a run of transactions on the cache. It is pure: made from the transactions, the index and the stored records that it asked
// for, it changes none of them.
//
// Within a batch only the last state of a row counts, and where a row stands is decided at the end, because a transaction may write a child before its
// parent, two teams may swap their tokens, and a team may go before its flags. Readers never see what lies between, so nothing is lost.
type plan struct {
	index  *index
	stored map[row][]byte // records as the cache holds them, of the rows in reads

	states map[row]*state
	order  []row // of first appearance

	teams  map[int64]*teamOps
	tokens []tokenOp
	bytes  int    // of records and names to be sent
	marker string // why a reconcile is due; empty = it is not
}

// state is what a batch makes of a row.
type state struct {
	before int64  // the team that holds it in the cache, 0 = none
	after  int64  // the team that will
	at     int64  // the team that the source names, also while it hides the row; 0 for children and for rows that are gone
	parent row    // the parent that the source names
	record []byte // nil: none, or not known
	exists bool
	kept   bool // left as the cache has it, because the marker is set for it
}

// teamOps is what a batch does to one team.
type teamOps struct {
	team    int64
	mode    string   // "", modeGone or modeForce
	version string   // the team's version after the batch; empty = that of the batch
	removes []string // fields
	sets    []field  // compared in Redis: an equal record is not written
}

// The modes of teamOps.
const (
	modeGone  = "gone"  // remove the team whole
	modeForce = "force" // give it the version even if every record is equal
)

type field struct {
	name   string
	record []byte
}

// tokenOp gives a token to a team, or takes it away if that team still has it.
type tokenOp struct {
	token  string
	team   int64
	remove bool
}

// place is a record in the cache.
type place struct {
	team int64
	row  row
}

// reads returns the stored records that a plan of these transactions needs: those that lend an unchanged column, and children that follow their parent
// to another team. A row that the batch itself wrote before is not among them.
func reads(x *index, txs []*change.Tx) []place {
	var places []place
	seen := map[row]bool{}
	touched := map[row]bool{}
	need := func(r row) {
		if team := x.team(r); team != 0 && !seen[r] {
			seen[r] = true
			places = append(places, place{team, r})
		}
	}
	for _, tx := range txs {
		for i := range tx.Changes {
			c := &tx.Changes[i]
			r := row{c.Row.Table.Entity, c.Row.Key}
			source := r
			if c.OldKey != "" {
				source.key = c.OldKey
			}
			if c.Op == change.Upsert && !touched[source] && hasUnchanged(c.Row.Columns) {
				need(source)
			}
			touched[r], touched[source] = true, true
			if c.Row.Team != 0 && c.Row.Team != x.team(r) {
				for _, child := range x.children[r] {
					need(child)
				}
			}
		}
	}
	return places
}

func hasUnchanged(columns []change.Column) bool {
	return slices.ContainsFunc(columns, func(c change.Column) bool { return c.State == change.Unchanged })
}

// newPlan computes the net effect. stored holds the records of reads that exist.
func newPlan(x *index, txs []*change.Tx, stored map[row][]byte) (*plan, error) {
	p := &plan{index: x, stored: stored, states: map[row]*state{}, teams: map[int64]*teamOps{}}
	for _, tx := range txs {
		if tx.Reconcile != "" {
			p.mark(tx.Reconcile)
		}
		for i := range tx.Changes {
			if mutated("half_transaction") && i > 0 {
				break
			}
			if err := p.change(&tx.Changes[i]); err != nil {
				return nil, fmt.Errorf("transaction that ends at %v: %w", tx.EndLSN, err)
			}
		}
	}
	p.settle()
	if err := p.emit(); err != nil {
		return nil, err
	}
	return p, nil
}

// mark keeps the first reason: what follows is often its consequence.
func (p *plan) mark(reason string) {
	if p.marker == "" {
		p.marker = reason
	}
}

// state returns the batch's state of a row, which starts as the cache has it.
func (p *plan) state(r row) *state {
	s := p.states[r]
	if s == nil {
		team := p.index.team(r)
		s = &state{before: team, at: team, parent: p.index.parent(r), record: p.stored[r], exists: team != 0}
		p.states[r] = s
		p.order = append(p.order, r)
	}
	return s
}

func (p *plan) change(c *change.Change) error {
	r := row{c.Row.Table.Entity, c.Row.Key}
	s := p.state(r)
	if c.Op == change.Delete {
		if !mutated("missed_delete") {
			*s = state{before: s.before, at: c.Row.Team}
		}
		return nil
	}
	relation, isChild := childOf[r.entity]
	if c.Row.Table.Parent != relation.entity {
		return fmt.Errorf("table %q: entity %q finds its team through %q, not through %q", c.Row.Table.Name, r.entity, relation.entity, c.Row.Table.Parent)
	}
	base := s.record
	if c.OldKey != "" {
		old := p.state(row{r.entity, c.OldKey})
		base = old.record
		*old = state{before: old.before}
	}
	if isChild && c.Row.Parent == "" || !isChild && c.Row.Team == 0 {
		*s = state{before: s.before} // it belongs to no team, so no team's answers depend on it
		return nil
	}
	record, ok := appendRecord(make([]byte, 0, recordSize(c.Row.Columns, base)), c.Row.Columns, base)
	if !ok {
		p.mark(fmt.Sprintf("%s %s: an update left a large column as it was, and the cache lacks the row", r.entity, r.key))
		s.kept = true
		return nil
	}
	if mutated("lost_update") && s.exists && r.entity == flagcache.EntityFlag && r.key[len(r.key)-1]%2 == 0 {
		return nil
	}
	*s = state{before: s.before, at: c.Row.Team, record: record, exists: true}
	if isChild {
		s.parent = row{relation.entity, c.Row.Parent}
	}
	return nil
}

func recordSize(columns []change.Column, base []byte) int {
	n := len(base)
	for i := range columns {
		n += len(columns[i].Name) + len(columns[i].Text) + 8
	}
	return n
}

// settle decides which team holds each row after the batch.
func (p *plan) settle() {
	for _, r := range slices.Clone(p.order) {
		if s := p.states[r]; !s.kept && s.at != 0 && s.at != p.index.team(r) { // also of one that is hidden by now
			for _, child := range p.index.children[r] {
				p.state(child) // follows its parent, see below
			}
		}
	}
	for _, r := range p.order {
		s := p.states[r]
		switch {
		case s.kept:
			s.after = s.before
		case !s.exists:
			s.after = 0
		case s.parent == row{}:
			s.after = s.at
		default:
			p.follow(r, s)
		}
	}
}

// follow puts a child where its parent is.
func (p *plan) follow(r row, s *state) {
	s.after = p.teamOfParent(r, s.parent)
	switch {
	case s.after == 0:
		p.mark(fmt.Sprintf("%s %s: the team of its %s %s is not known", r.entity, r.key, s.parent.entity, s.parent.key))
		s.kept, s.after = true, s.before
	case s.record == nil && s.after != s.before:
		p.mark(fmt.Sprintf("%s %s: moves with its %s, and the cache lacks the row", r.entity, r.key, s.parent.entity))
		s.kept, s.after = true, s.before
	}
}

// teamOfParent finds the team of a parent, also of one that counts as absent: its former place and that of its other children tell.
func (p *plan) teamOfParent(child, parent row) int64 {
	if s := p.states[parent]; s != nil && !s.kept && s.at != 0 {
		return s.at
	}
	if team := p.index.team(parent); team != 0 {
		return team
	}
	if p.index.parent(child) == parent {
		return p.index.team(child)
	}
	for _, sibling := range p.index.children[parent] {
		return p.index.team(sibling)
	}
	return 0
}

// emit turns the states into operations per team and on tokens.
func (p *plan) emit() error {
	var given, taken []tokenOp
	for _, r := range p.order {
		s := p.states[r]
		if s.kept {
			continue
		}
		name := flagcache.Field(r.entity, r.key)
		if s.before != 0 && s.before != s.after {
			ops := p.ops(s.before)
			ops.removes = append(ops.removes, name)
			p.bytes += len(name)
		}
		if s.after != 0 && s.record != nil && (s.before != s.after || !bytes.Equal(s.record, p.stored[r])) {
			ops := p.ops(s.after)
			ops.sets = append(ops.sets, field{name, s.record})
			p.bytes += len(name) + len(s.record)
		}
		if r.entity != flagcache.EntityTeam {
			continue
		}
		var token string
		if s.exists && s.record != nil {
			var err error
			if token, err = tokenOf(s.record); err != nil {
				return fmt.Errorf("team %s: %w", r.key, err)
			}
		}
		former := p.index.tokens[s.before]
		if former != "" && (former != token || s.before != s.after) {
			taken = append(taken, tokenOp{former, s.before, true})
		}
		if token != "" && (former != token || s.before != s.after) {
			given = append(given, tokenOp{token, s.after, false})
		}
	}
	p.tokens = append(taken, given...)
	for _, ops := range p.teams {
		ops.tidy()
	}
	return nil
}

func (p *plan) ops(team int64) *teamOps {
	ops := p.teams[team]
	if ops == nil {
		ops = &teamOps{team: team}
		p.teams[team] = ops
	}
	return ops
}

// tidy drops removals of fields that are set again, which happens when another row takes the place of the only one of its kind, and fixes the order.
func (o *teamOps) tidy() {
	slices.SortFunc(o.sets, func(a, b field) int { return cmp.Compare(a.name, b.name) })
	o.removes = slices.DeleteFunc(o.removes, func(name string) bool {
		_, set := slices.BinarySearchFunc(o.sets, name, func(f field, name string) int { return cmp.Compare(f.name, name) })
		return set
	})
	slices.Sort(o.removes)
}

// sorted returns the operations by team.
func (p *plan) sorted() []*teamOps {
	all := make([]*teamOps, 0, len(p.teams))
	for _, team := range slices.Sorted(maps.Keys(p.teams)) {
		all = append(all, p.teams[team])
	}
	return all
}

// commit makes the index follow what Redis has confirmed.
func (p *plan) commit() {
	for _, r := range p.order {
		s := p.states[r]
		switch {
		case s.kept:
		case s.after != 0:
			p.index.put(r, s.after, s.parent)
		case s.before != 0:
			p.index.remove(r)
		}
	}
	for _, op := range p.tokens {
		if !op.remove {
			p.index.setToken(op.team, op.token)
		} else if p.index.tokens[op.team] == op.token {
			p.index.setToken(op.team, "")
		}
	}
}
