package eval

import "strings"

// truth is the outcome of a test: unknown if something that decides it is not known.
type truth uint8

const (
	no truth = iota
	yes
	unknown
	untested
)

func (t truth) String() string {
	return [...]string{"false", "true", "unknown"}[t]
}

func (t truth) inverted(not bool) truth {
	if not && t != unknown {
		return 1 - t
	}
	return t
}

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// want says what a request wants of a flag.
type want uint8

const (
	unwanted want = iota
	needed        // by another flag
	asked
)

// Evaluate decides the flags that the request asks for. The decision is valid until the next Evaluate with s.
func (p *Program) Evaluate(in *Input, s *Scratch) *Decision {
	s.begin(p, in)
	if in.Keys != nil {
		s.mark(p, in.Keys)
	}
	for i, f := range p.flags {
		if in.Keys != nil && s.wanted[i] == unwanted {
			continue
		}
		if why := f.omitted(in); why != "" {
			s.values[i] = f.off // for the flags that depend on it
			if s.rec != nil {
				s.rec.omit(f, why)
			}
			continue
		}
		if s.rec != nil {
			s.rec.begin(f)
		}
		s.decision.Results = append(s.decision.Results, Result{Flag: f, Condition: -1})
		r := &s.decision.Results[len(s.decision.Results)-1]
		s.evaluate(r, in)
		s.values[i] = r.Answer
		if r.Failed {
			s.values[i] = nil
		}
		onlyNeeded := in.Keys != nil && s.wanted[i] == needed
		if s.rec != nil {
			s.rec.end(r, onlyNeeded)
		}
		if onlyNeeded {
			s.decision.Results = s.decision.Results[:len(s.decision.Results)-1]
		} else if r.Failed {
			s.decision.Errors = true
		}
	}
	return &s.decision
}

// mark marks the flags asked for and, from the last to the first, what they need.
func (s *Scratch) mark(p *Program, keys []string) {
	s.wanted = resize(s.wanted, len(p.flags))
	clear(s.wanted)
	for _, key := range keys {
		if f := p.byKey[key]; f != nil {
			s.wanted[f.place] = asked
		}
	}
	for i := len(p.flags) - 1; i >= 0; i-- {
		if s.wanted[i] == unwanted {
			continue
		}
		for _, need := range p.flags[i].needs {
			s.wanted[need.place] = max(s.wanted[need.place], needed)
		}
	}
}

// omitted says why no response to the request contains the flag; "" if one does.
func (f *Flag) omitted(in *Input) string {
	switch {
	case !f.active:
		return "inactive"
	case in.SurveysOnly && !f.survey:
		return "not of a survey"
	case f.runtime != RuntimeAll && in.Runtime != RuntimeAll && f.runtime != in.Runtime:
		return "for another runtime"
	case len(in.Contexts) > 0 && len(f.contexts) > 0 && !shares(f.contexts, in.Contexts):
		return "for other evaluation contexts"
	}
	return ""
}

// shares says whether one of the names asked for is among the flag's, which are stored trimmed and in lower case.
func shares(names, asked []string) bool {
	for _, name := range names {
		for _, a := range asked {
			if strings.EqualFold(name, strings.TrimSpace(a)) {
				return true
			}
		}
	}
	return false
}

// outcome collects the values that a flag can have, as far as they are not known to be its value.
type outcome struct {
	possible *Answer // the one value that unknowns could lead to so far
	fault    fault   // why something is unknown
	open     bool    // unknowns could lead to different values
}

func (o *outcome) add(a *Answer, f fault) {
	if o.fault == noFault {
		o.fault = f
	}
	if a == nil || o.possible != nil && o.possible != a {
		o.open = true
	}
	o.possible = a
}

// settle makes the result the answer, unless an unknown leads to another one.
func (o *outcome) settle(r *Result, a *Answer, reason Reason, condition int) {
	if o.open || o.possible != nil && o.possible != a {
		r.Answer, r.Reason, r.Failed, r.fault = r.Flag.off, Failure, true, o.fault
		return
	}
	r.Answer, r.Reason, r.Condition = a, reason, condition
}

// evaluate decides one flag.
func (s *Scratch) evaluate(r *Result, in *Input) {
	f, o := r.Flag, outcome{}
	switch {
	case f.fault != noFault:
		o.add(nil, f.fault)
		o.settle(r, nil, 0, -1)
		return
	case f.missing:
		o.settle(r, f.off, MissingDependency, -1)
		return
	}
	b := bucket{s: s, flag: f, in: in}
	b.identify()
	if f.enrollment >= 0 {
		if p := s.get(f.enrollment); p != nil {
			o.settle(r, f.switched(s.enrolled(p)), SuperConditionValue, 0)
			return
		}
		o.add(nil, faultProperty)
	} else if f.super != nil {
		if decided, value := b.superCondition(&o); decided {
			o.settle(r, value, SuperConditionValue, 0)
			return
		}
	}
	if f.holdout != nil && !o.open {
		switch b.inHoldout() {
		case yes:
			o.settle(r, f.holdout.answer, HoldoutConditionValue, -1)
			return
		case unknown:
			o.add(f.holdout.answer, faultGroups)
		}
	}
	b.conditions(r, &o)
}

func (f *Flag) switched(on bool) *Answer {
	if on {
		return f.on
	}
	return f.off
}

func (s *Scratch) enrolled(p *slot) bool {
	enrolled := truthyValue(p.value)
	if s.rec != nil {
		s.rec.step(-1, truthOf(enrolled), "early access: the person is enrolled")
	}
	return enrolled
}

// superCondition tests the older form of early access. decided is false if the flag's other rules count.
func (b *bucket) superCondition(o *outcome) (decided bool, value *Answer) {
	super := b.flag.super
	match, why := b.matches(super)
	rolled, whyRolled := b.rollout(super)
	if len(super.filters) > 0 && super.filters[0].source == ofPerson && b.s.get(super.filters[0].slot) == nil {
		// The database may know the property; if so, the condition decides. Of what it then says only a no can be certain.
		if match == no || rolled == no {
			o.add(b.flag.off, faultProperty)
		} else {
			o.add(nil, max(why, whyRolled))
		}
		return false, nil
	}
	if match == no || rolled == no {
		return true, b.flag.off
	}
	if match == unknown || rolled == unknown {
		o.add(nil, max(why, whyRolled))
		return false, nil
	}
	return true, b.flag.on
}

// conditions tests the flag's conditions in their order; the first that holds decides.
func (b *bucket) conditions(r *Result, o *outcome) {
	f := b.flag
	reason, index, skipped := NoGroupType, -1, false
	note := func(r Reason, c *condition) {
		if reasonTexts[r].score >= reasonTexts[reason].score {
			reason, index = r, c.index
		}
	}
	for i := range f.conditions {
		if o.open {
			break
		}
		c := &f.conditions[i]
		switch b.standing(c) {
		case noGroup:
			skipped = true
			note(NoGroupType, c)
			continue
		case noDevice:
			note(OutOfRolloutBound, c)
			continue
		}
		match, why := b.matches(c)
		if match == no {
			note(NoConditionMatch, c)
			continue
		}
		rolled, whyRolled := b.rollout(c)
		if rolled == no {
			note(OutOfRolloutBound, c)
			if f.earlyExit && match == yes {
				o.settle(r, f.off, OutOfRolloutBound, c.index)
				return
			} else if f.earlyExit {
				o.add(f.off, why)
			}
			continue
		}
		answer, whyAnswer := b.answer(c)
		if match == yes && rolled == yes && answer != nil {
			o.settle(r, answer, ConditionMatch, c.index)
			return
		}
		o.add(answer, max(why, whyRolled, whyAnswer))
		if rolled == unknown && f.earlyExit {
			o.add(f.off, whyRolled)
		}
		note(NoConditionMatch, c)
	}
	if skipped && reason == NoConditionMatch {
		reason = NoConditionMatchGroups
	}
	o.settle(r, f.off, reason, index)
}

// matches tests a condition's filters. why is set if the outcome is unknown.
func (b *bucket) matches(c *condition) (match truth, why fault) {
	match = yes
	for i := range c.filters {
		f := &c.filters[i]
		t, w := b.s.test(f)
		if b.s.rec != nil {
			b.s.rec.filter(b.s, c.index, f, t)
		}
		switch t {
		case no:
			return no, noFault
		case unknown:
			match = unknown
			if why == noFault {
				why = w
			}
		}
	}
	return match, why
}

// cohortsUpTo evaluates cohorts in the program's order until the one given is known: those it refers to come before it.
func (s *Scratch) cohortsUpTo(c *cohort) {
	order := s.program.cohorts
	for ; s.done <= c.place; s.done++ {
		next := order[s.done]
		s.cohorts[s.done] = unknown
		if next.fault == noFault {
			s.cohorts[s.done] = s.member(&next.root)
		}
	}
}

// member evaluates a node of a cohort's tree, which is no deeper than maxDepth.
func (s *Scratch) member(n *cohortNode) truth {
	if n.leaf != nil {
		if n.leaf.source == ofCohort {
			return s.cohorts[n.leaf.cohort.place].inverted(n.leaf.not)
		}
		t, _ := s.test(n.leaf)
		return t.inverted(n.leaf.not)
	}
	all := truthOf(!n.any)
	for i := range n.kids {
		switch s.member(&n.kids[i]) {
		case truthOf(n.any):
			return truthOf(n.any)
		case unknown:
			all = unknown
		}
	}
	return all
}
