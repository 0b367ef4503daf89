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
	mode    string   // "" or one of the modes
	version string   // the team's version after the batch; empty = that of the batch
	removes []string // fields
	sets    []field  // compared in Redis: an equal record is not written

	expected int // number of sets to come
}

// The modes of teamOps.
const (
	modeGone   = "gone"   // remove the team whole
	modeForce  = "force"  // give it the version even if every record is equal
	modeStaged = "staged" // the cache has nothing of the team; what was staged becomes it
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
	p.announce()
	var given, taken []tokenOp
	for _, s := range p.order {
		if s.kept {
			continue
		}
		if s.before != 0 && s.before != s.after {
			ops := p.ops(s.before)
			ops.removes = append(ops.removes, flagcache.Field(s.row.entity, s.row.key))
		}
		if s.sent {
			ops := p.ops(s.after)
			if ops.sets == nil {
				ops.sets = p.space.room(ops.expected)
			}
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

// announce finds the records that have to be sent and counts those of each team, so that each is given room for them once.
func (p *plan) announce() {
	for _, s := range p.order {
		if !s.kept && s.after != 0 && s.record != nil && (s.before != s.after || !bytes.Equal(s.record, p.stored[s.row])) {
			s.sent = true
			p.ops(s.after).expected++
		}
	}
}

func (p *plan) ops(team int64) *teamOps {
	ops := p.teams[team]
	if ops == nil {
		ops = p.space.team()
		ops.team = team
		p.teams[team] = ops
	}
	return ops
}

// tidy drops removals of fields that are set again, which happens when another row takes the place of the only one of its kind.
func (o *teamOps) tidy() {
	if len(o.removes) == 0 || len(o.sets) == 0 {
		return
	}
	// A field that is named by its entity alone is that of a table with one row per team: only there can another row have the same field.
	o.removes = slices.DeleteFunc(o.removes, func(name string) bool {
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

// space gives out memory for the states, teams and records of one plan in pieces, each twice as large as the last up to a limit: a batch has thousands of
// each, and they end together.
type space struct {
	states []state
	teams  []teamOps
	fields []field
	text   []byte
}

// The largest pieces.
const (
	maxPiece = 512       // states, teams or fields
	maxText  = 256 << 10 // bytes of records
)

// room returns an empty slice with room for n fields.
func (s *space) room(n int) []field {
	if cap(s.fields)-len(s.fields) < n {
		s.fields = make([]field, 0, max(n, min(2*cap(s.fields), maxPiece)))
	}
	start := len(s.fields)
	s.fields = s.fields[:start+n]
	return s.fields[start : start : start+n]
}

func (s *space) team() *teamOps {
	if len(s.teams) == cap(s.teams) {
		s.teams = make([]teamOps, 0, min(max(1, 2*cap(s.teams)), maxPiece))
	}
	s.teams = s.teams[:len(s.teams)+1]
	return &s.teams[len(s.teams)-1]
}

func (s *space) state() *state {
	if len(s.states) == cap(s.states) {
		s.states = make([]state, 0, min(max(4, 2*cap(s.states)), maxPiece))
	}
	s.states = s.states[:len(s.states)+1]
	return &s.states[len(s.states)-1]
}

// bytes returns an empty slice with room for n bytes. Give used what it has become.
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
