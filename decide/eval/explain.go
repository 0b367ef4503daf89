package eval

import (
	"fmt"
	"strconv"
	"strings"
)

// Explanation is an evaluation with every step that led to its outcome.
type Explanation struct {
	Team     int64             `json:"team_id"`
	Version  string            `json:"version"`
	Errors   bool              `json:"errors_while_computing_flags"`
	Flags    []FlagExplanation `json:"flags"`
	Problems []Problem         `json:"problems"`
}

// FlagExplanation explains one flag.
type FlagExplanation struct {
	ID          int64   `json:"id"`
	Key         string  `json:"key"`
	Omitted     string  `json:"omitted,omitempty"` // why the response does not contain it
	Enabled     bool    `json:"enabled"`
	Variant     *string `json:"variant"`
	Failed      bool    `json:"failed,omitempty"`
	Reason      string  `json:"reason,omitempty"`
	Condition   *int    `json:"condition_index"`
	Description string  `json:"description,omitempty"`
	Payload     string  `json:"payload,omitempty"` // its JSON text
	Steps       []Step  `json:"steps"`
}

// Step is one step of an evaluation.
type Step struct {
	Condition *int     `json:"condition_index,omitempty"` // the condition that it is part of
	What      string   `json:"what"`                      // for people
	Result    string   `json:"result,omitempty"`          // true, false, unknown, or a value
	Hash      *float64 `json:"hash,omitempty"`
}

// Explain evaluates with the same code as Evaluate and records every step.
func (p *Program) Explain(in *Input) Explanation {
	r := &recorder{problems: p.problems}
	s := &Scratch{rec: r}
	d := p.Evaluate(in, s)
	e := Explanation{Team: p.teamID, Version: p.version, Errors: d.Errors, Flags: r.flags, Problems: p.problems}
	if e.Flags == nil {
		e.Flags = []FlagExplanation{}
	}
	if e.Problems == nil {
		e.Problems = []Problem{}
	}
	return e
}

func formatFloat(f float64) string {
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// recorder keeps what the evaluator does. Its methods are called only while explaining.
type recorder struct {
	problems []Problem
	flags    []FlagExplanation
}

func (r *recorder) omit(f *Flag, why string) {
	r.flags = append(r.flags, FlagExplanation{ID: f.ID, Key: f.Key, Omitted: why, Steps: []Step{}})
}

func (r *recorder) begin(f *Flag) {
	r.flags = append(r.flags, FlagExplanation{ID: f.ID, Key: f.Key, Steps: []Step{}})
	for _, problem := range r.problems {
		if problem.FlagID == f.ID {
			r.add(-1, problem.Reason, "", nil)
		}
	}
}

func (r *recorder) end(result *Result, onlyNeeded bool) {
	f := &r.flags[len(r.flags)-1]
	f.Enabled, f.Failed, f.Description, f.Payload = result.Enabled, result.Failed, result.Description(), string(result.Payload)
	if result.named {
		f.Variant = new(result.Variant)
	}
	f.Reason = result.Reason.String()
	if result.Failed {
		f.Reason = result.ErrorCode()
	}
	if result.Condition >= 0 {
		f.Condition = new(result.Condition)
	}
	if onlyNeeded {
		f.Omitted = "not asked for, but needed by a flag that is"
	}
}

func (r *recorder) add(condition int, what, result string, hash *float64) {
	step := Step{What: what, Result: result, Hash: hash}
	if condition >= 0 {
		step.Condition = new(condition)
	}
	f := &r.flags[len(r.flags)-1]
	f.Steps = append(f.Steps, step)
}

func (r *recorder) step(condition int, t truth, what string) {
	r.add(condition, what, t.String(), nil)
}

func (r *recorder) identity(b *bucket) {
	what := "persons are bucketed by distinct id"
	switch f := b.flag; {
	case f.byDevice && !b.deviceNeeded:
		what = "persons are bucketed by device id"
	case f.continuity && b.in.AnonDistinctID != "":
		what = "persons are bucketed by the anonymous id, for continuity"
	case !b.personKnown:
		r.add(-1, "persons are bucketed by a stored hash key, which is not known here", unknown.String(), nil)
		return
	}
	r.add(-1, what, strconv.Quote(b.person), nil)
}

func (r *recorder) rollout(b *bucket, c *condition, t truth) {
	what := "rollout " + formatFloat(c.rollout) + " %"
	id, known := b.identifier(c.group)
	if c.rollout == 100 || !known {
		r.step(c.index, t, what)
		return
	}
	what += fmt.Sprintf(" includes %q", b.flag.prefix+id)
	r.add(c.index, what, t.String(), new(b.position(c.group, id)))
}

func (r *recorder) variant(b *bucket, c *condition, a *Answer) {
	result := unknown.String()
	if a != nil {
		result = string(a.value)
	}
	id, known := b.identifier(c.group)
	switch {
	case c.override != nil:
		r.add(c.index, "variant that the condition names", result, nil)
	case known:
		r.add(c.index, fmt.Sprintf("variant of %q", b.flag.prefix+id+"variant"), result, new(b.s.hash(b.flag.prefix, id, "variant")))
	case a != nil:
		r.add(c.index, "the only variant that anybody can get", result, nil)
	default:
		r.add(c.index, "variant by a hash of what is not known here", result, nil)
	}
}

func (r *recorder) holdout(b *bucket, id string, t truth) {
	what := fmt.Sprintf("holdout of %s %% takes out %q", formatFloat(b.flag.holdout.percentage), "holdout-"+id)
	r.add(-1, what, t.String(), new(b.s.hashAll("holdout-", id, "")))
}

func (r *recorder) filter(s *Scratch, condition int, f *filter, t truth) {
	r.step(condition, t, s.describe(f))
	if f.source == ofCohort {
		r.leaves(s, condition, f.cohort, &f.cohort.root)
	}
}

// leaves records the tests of a cohort, those of cohorts that it refers to aside.
func (r *recorder) leaves(s *Scratch, condition int, c *cohort, n *cohortNode) {
	if n.leaf != nil {
		t, _ := s.test(n.leaf)
		what := fmt.Sprintf("cohort %d: %s", c.id, s.describe(n.leaf))
		if n.leaf.not && n.leaf.source != ofCohort {
			t, what = t.inverted(true), what+", negated"
		}
		r.step(condition, t, what)
	}
	for i := range n.kids {
		r.leaves(s, condition, c, &n.kids[i])
	}
}

// describe says what a filter tests, and on what.
func (s *Scratch) describe(f *filter) string {
	test := strings.TrimSpace(fmt.Sprintf("%q %s %s", f.text.key, orExact(f.text.operator), f.text.value))
	switch f.source {
	case ofPerson:
		return "person property " + test + given(s.get(f.slot), "not given")
	case ofGroup:
		if f.group < 0 {
			return "property of no group type " + test
		}
		absent := "not given"
		if s.groups[f.group].absent {
			absent = "there is no such group"
		}
		return fmt.Sprintf("property of group type %d %s", s.program.groups[f.group].index, test) + given(s.get(f.slot), absent)
	case ofCohort:
		what := fmt.Sprintf("in cohort %d", f.cohort.id)
		if f.not {
			what = "not " + what
		}
		if f.cohort.detail != "" {
			what += " (" + f.cohort.detail + ")"
		}
		return what
	case ofFlag:
		value := "failed"
		if a := s.values[f.flag.place]; a != nil {
			value = string(a.value)
		}
		return fmt.Sprintf("flag %d (%s) is to be %s, is %s", f.flag.ID, f.flag.Key, f.text.value, value)
	case ofNothing:
		return "can never hold: " + test
	default:
		return "cannot be computed from properties: " + test
	}
}

func given(p *slot, absent string) string {
	if p == nil {
		return ", " + absent
	}
	if p.value.Kind == String {
		return ", given " + string(appendQuoted(nil, p.value.Text))
	}
	return ", given " + p.text()
}
