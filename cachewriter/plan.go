package cachewriter

import (
	"cmp"
	"fmt"
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
	order  []*state // of first appearance
	space  space

	teams  map[int64]*teamOps
	tokens []tokenOp
	bytes  int    // of records to be sent
	marker string // why a reconcile is due; empty = it is not

	partial bool // a row is kept: the plan must not be applied, only its marker
}

// state is what a batch makes of a row.
type state struct {
	row    row
	before int64  // the team that holds it in the cache, 0 = none
	after  int64  // the team that will
	at     int64  // the team that the source names, also while it hides the row; 0 for children and for rows that are gone
	parent row    // the parent that the source names
	record []byte // nil: none, or not known
	exists bool
	kept   bool // left as the cache has it, because the marker is set for it
	sent   bool // its record is another one than the stored one
}

// place is a record in the cache.
type place struct {
	team int64
	row  row
}

// reads returns the stored records that a plan of these transactions needs: those that lend an unchanged column, and children that follow their parent
// to another team.
func reads(x *index, txs []*change.Tx) (places []place) {
	seen := map[row]bool{}
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
			if c.Op == change.Upsert && hasUnchanged(c.Row.Columns) {
				need(row{r.entity, cmp.Or(c.OldKey, r.key)})
			}
			if children := x.children[r]; len(children) > 0 && c.Row.Team != 0 && c.Row.Team != x.team(r) {
				for _, child := range children {
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

// keep leaves a row as the cache has it, because what it should be is not known. The plan then holds only a part of the transaction.
func (p *plan) keep(s *state) {
	s.kept, s.after, p.partial = true, s.before, true
}

// state returns the batch's state of a row, which starts as the cache has it.
func (p *plan) state(r row) *state {
	s := p.states[r]
	if s == nil {
		team := p.index.team(r)
		s = p.space.state()
		*s = state{row: r, before: team, at: team, parent: p.index.parent(r), record: p.stored[r], exists: team != 0}
		p.states[r] = s
		p.order = append(p.order, s)
	}
	return s
}

func (p *plan) change(c *change.Change) error {
	r := row{c.Row.Table.Entity, c.Row.Key}
	s := p.state(r)
	base := s.record
	if c.OldKey != "" {
		old := p.state(row{r.entity, c.OldKey})
		base = old.record
		*old = state{row: old.row, before: old.before} // also of a hidden row: the place that it had says nothing of who takes its key
	}
	if c.Op == change.Delete {
		if !mutated("missed_delete") {
			*s = state{row: r, before: s.before, at: c.Row.Team}
		}
		return nil
	}
	relation, isChild := childOf[r.entity]
	if c.Row.Table.Parent != relation.entity {
		return fmt.Errorf("table %q: entity %q finds its team through %q, not through %q", c.Row.Table.Name, r.entity, relation.entity, c.Row.Table.Parent)
	}
	if isChild && c.Row.Parent == "" || !isChild && c.Row.Team == 0 {
		*s = state{row: r, before: s.before} // it belongs to no team, so no team's answers depend on it
		return nil
	}
	record, ok := appendRecord(p.space.bytes(recordSize(c.Row.Columns, base)), c.Row.Columns, base)
	p.space.used(record)
	if !ok {
		p.mark(fmt.Sprintf("%s %s: an update left a large column as it was, and the cache lacks the row", r.entity, r.key))
		p.keep(s)
		return nil
	}
	if mutated("lost_update") && s.exists && r.entity == flagcache.EntityFlag && r.key[len(r.key)-1]%2 == 0 {
		return nil
	}
	*s = state{row: r, before: s.before, at: c.Row.Team, record: record, exists: true}
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
	if len(p.index.children) > 0 {
		for _, s := range slices.Clone(p.order) {
			if !s.kept && s.at != 0 && s.at != s.before { // also of one that is hidden by now
				for _, child := range p.index.children[s.row] {
					p.state(child) // follows its parent, see below
				}
			}
		}
	}
	for _, s := range p.order {
		switch {
		case s.kept:
			s.after = s.before
		case !s.exists:
			s.after = 0
		case s.parent == row{}:
			s.after = s.at
		default:
			p.follow(s)
		}
	}
}

// follow puts a child where its parent is.
func (p *plan) follow(s *state) {
	r := s.row
	s.after = p.teamOfParent(r, s.parent)
	switch {
	case s.after == 0:
		p.mark(fmt.Sprintf("%s %s: the team of its %s %s is not known", r.entity, r.key, s.parent.entity, s.parent.key))
		p.keep(s)
	case s.record == nil && s.after != s.before:
		p.mark(fmt.Sprintf("%s %s: moves with its %s, and the cache lacks the row", r.entity, r.key, s.parent.entity))
		p.keep(s)
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
