package cachewriter

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/everflag/everflag/internal/flagcache"
)

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

// field is a record and the row that names its field.
type field struct {
	row    row
	record []byte
}

// MarshalBinary lets a pointer to a field stand for its record among the arguments of a script: a slice of bytes would be copied to the heap for each.
func (f *field) MarshalBinary() ([]byte, error) {
	return f.record, nil
}

// tokenOp gives a token to a team, or takes it away if that team still has it.
type tokenOp struct {
	token  string
	team   int64
	remove bool
}

// emit turns the states into operations per team and on tokens.
func (p *plan) emit() error {
	var given, taken []tokenOp
	for _, s := range p.order {
		if s.kept {
			continue
		}
		if s.before != 0 && s.before != s.after {
			ops := p.ops(s.before)
			ops.removes = append(ops.removes, flagcache.Field(s.row.entity, s.row.key))
		}
		if s.after != 0 && s.record != nil && (s.before != s.after || !bytes.Equal(s.record, p.stored[s.row])) {
			ops := p.ops(s.after)
			ops.sets = append(ops.sets, field{s.row, s.record})
			p.bytes += len(s.record)
		}
		if s.row.entity != flagcache.EntityTeam {
			continue
		}
		var token string
		if s.exists && s.record != nil {
			var err error
			if token, err = tokenOf(s.record); err != nil {
				return fmt.Errorf("team %s: %w", s.row.key, err)
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

// tidy drops removals of fields that are set again, which happens when another row takes the place of the only one of its kind.
func (o *teamOps) tidy() {
	if len(o.removes) == 0 || len(o.sets) == 0 {
		return
	}
	o.removes = slices.DeleteFunc(o.removes, func(name string) bool { // no entity is a name but of these
		return slices.ContainsFunc(o.sets, func(f field) bool { return f.row.entity == name })
	})
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
	for _, s := range p.order {
		switch {
		case s.kept:
		case s.after != 0:
			if s.after != s.before || s.parent != (row{}) {
				p.index.put(s.row, s.after, s.parent)
			}
		case s.before != 0:
			p.index.remove(s.row)
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

// space gives out memory for the states and records of one plan in large pieces: a batch has thousands of both, and they end together.
type space struct {
	states []state
	text   []byte
}

const (
	maxStates = 512
	maxText   = 256 << 10
)

func (s *space) state() *state {
	if len(s.states) == cap(s.states) {
		s.states = make([]state, 0, min(max(4, 2*cap(s.states)), maxStates))
	}
	s.states = s.states[:len(s.states)+1]
	return &s.states[len(s.states)-1]
}

// bytes returns an empty slice with room for n bytes. What was appended is to be given to used.
func (s *space) bytes(n int) []byte {
	if cap(s.text)-len(s.text) < n {
		s.text = make([]byte, 0, max(n, min(2*cap(s.text), maxText)))
	}
	return s.text[len(s.text):len(s.text):cap(s.text)]
}

// used keeps the bytes of a slice from being given out again, unless it has outgrown its room.
func (s *space) used(text []byte) {
	if free := s.text[len(s.text):cap(s.text)]; len(text) > 0 && len(free) > 0 && &text[0] == &free[0] {
		s.text = s.text[:len(s.text)+len(text)]
	}
}
