package eval

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// source is where a filter looks.
type source uint8

const (
	ofPerson source = iota
	ofGroup
	ofCohort
	ofFlag
	ofNothing // never matches
	ofUnknown // cannot be evaluated from properties
)

// filter is one test of a condition or a cohort.
type filter struct {
	source  source
	not     bool  // inverts the outcome of a cohort or of a cohort's leaf
	wants   wish  // of ofFlag
	fault   fault // why it is unknown, of ofUnknown
	group   int32
	slot    int32
	test    int32 // of ofPerson: its place among the program's tests
	matcher *matcher
	cohort  *cohort
	flag    *Flag
	text    *filterText
}

// filterText is what evaluation seldom reads: a filter as the definition spells it.
type filterText struct {
	key, operator string
	value         string // JSON
	variant       string // that the filter wants of a flag
}

// wish is what a filter wants of a flag.
type wish uint8

const (
	wantsNothing wish = iota // no value fulfils it
	wantsOn
	wantsOff
	wantsVariant
)

var errUnreadable = errors.New("unreadable filters")

func unreadable(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errUnreadable}, args...)...)
}

// compileFilters compiles the properties of a condition that aggregates by the group, -1 for persons. Cohorts come last, as they are dearest.
func (c *compiler) compileFilters(owner *Flag, properties *node, group int32) ([]filter, error) {
	if properties == nil || properties.Kind == Null {
		return nil, nil
	}
	if properties.Kind != Array {
		return nil, unreadable("properties are no list")
	}
	var filters, cohorts []filter
	for i := range properties.items {
		f, err := c.compileFilter(owner, &properties.items[i], group)
		if err != nil {
			return nil, err
		}
		if f.source == ofCohort {
			cohorts = append(cohorts, f)
		} else {
			filters = append(filters, f)
		}
	}
	return append(filters, cohorts...), nil
}

func (c *compiler) compileFilter(owner *Flag, n *node, group int32) (filter, error) {
	key := n.member("key")
	if !key.is(String) {
		return filter{}, unreadable("a property without key")
	}
	kind, operator := "person", ""
	if t := n.present("type"); t != nil {
		kind = t.Text
	}
	if o := n.present("operator"); o != nil {
		if _, ok := operatorNames[o.Text]; !ok || o.Kind != String {
			return filter{}, unreadable("operator %q", o.Text)
		}
		operator = o.Text
	}
	f := filter{group: -1, text: &filterText{key: strings.Clone(key.Text), operator: strings.Clone(operator)}}
	if value := n.member("value"); value != nil {
		f.text.value = strings.Clone(value.raw)
	}
	switch kind {
	case "person", "person_metadata":
		c.personFilter(&f, kind, n.member("value"))
	case "group":
		if index := n.present("group_type_index"); index != nil {
			i, ok := index.integer()
			if !ok {
				return filter{}, unreadable("group_type_index %s", index.raw)
			}
			group = c.groupAt(i)
		}
		c.groupFilter(&f, group, n.member("value"))
	case "cohort":
		c.cohortFilter(&f, n.member("value"))
	case "flag":
		c.flagFilter(&f, owner, n.member("value"))
	default:
		return filter{}, unreadable("property type %q", kind)
	}
	return f, nil
}

// metadataPrefix keeps the columns of the persons table apart from properties of the same name.
const metadataPrefix = "__posthog_person_metadata__"

func (c *compiler) personFilter(f *filter, kind string, value *node) {
	key := f.text.key
	if kind == "person_metadata" {
		key = metadataPrefix + key
	}
	f.source, f.slot = ofPerson, c.personSlot(key)
	same := personTest{f.slot, orExact(f.text.operator), f.text.value}
	first, known := c.tests[same]
	if !known {
		c.matchBy(f, value)
		f.test = int32(c.p.tests)
		c.p.tests++
		c.tests[same] = *f
		return
	}
	f.source, f.fault, f.matcher, f.test = first.source, first.fault, first.matcher, first.test
}

// personTest is what the outcome of a filter on a person property depends on.
type personTest struct {
	slot            int32
	operator, value string
}

// matchBy compiles the filter's operator, which is known to exist.
func (c *compiler) matchBy(f *filter, value *node) {
	f.matcher, _ = c.compileMatcher(orExact(f.text.operator), value)
	if f.matcher.foreign {
		f.source, f.fault = ofUnknown, faultPattern
	}
}

func (c *compiler) groupFilter(f *filter, group int32, value *node) {
	f.source, f.group = ofGroup, group
	if group >= 0 {
		f.slot = c.groupSlot(group, f.text.key)
	}
	c.matchBy(f, value)
}

func orExact(operator string) string {
	if operator == "" {
		return "exact"
	}
	return operator
}

// cohortFilter refers to a cohort. The service of today knows no operators but in and not_in; the server of 2023 took exact for in.
func (c *compiler) cohortFilter(f *filter, value *node) {
	id, ok := value.integer()
	switch {
	case !ok:
		f.source, f.fault = ofUnknown, faultCohortFilters
	case f.text.operator == "" || f.text.operator == "in" || f.text.operator == "not_in" || f.text.operator == "exact" && c.rules == Rules2023:
		f.source, f.cohort, f.not = ofCohort, c.cohort(id), f.text.operator == "not_in"
	default:
		f.source = ofNothing
	}
}

// flagID is the id that a dependency names; 0, which no flag has, if it names none.
func flagID(key string) int64 {
	id, err := strconv.ParseInt(key, 10, 64)
	if err != nil {
		return 0
	}
	return id
}

func (c *compiler) flagFilter(f *filter, owner *Flag, value *node) {
	f.source = ofNothing
	id := flagID(f.text.key)
	if id == 0 {
		return
	}
	c.references[owner] = append(c.references[owner], id) // resolved by orderFlags
	if f.text.operator != "flag_evaluates_to" || value == nil {
		return
	}
	f.source = ofFlag
	switch value.Kind {
	case True:
		f.wants = wantsOn
	case False:
		f.wants = wantsOff
	case String:
		f.wants, f.text.variant = wantsVariant, strings.Clone(value.Text)
	}
}

// test is the outcome of one filter.
func (s *Scratch) test(f *filter) (t truth, why fault) {
	switch f.source {
	case ofPerson:
		if t = s.property(f); t == unknown {
			return unknown, faultProperty
		}
		return t, noFault
	case ofGroup:
		return s.testGroup(f)
	case ofCohort:
		s.cohortsUpTo(f.cohort)
		if t := s.cohorts[f.cohort.place]; t != unknown {
			return t.inverted(f.not), noFault
		}
		return unknown, max(f.cohort.fault, faultProperty)
	case ofFlag:
		return s.testFlag(f)
	case ofUnknown:
		return unknown, f.fault
	default:
		return no, noFault
	}
}

// property is the outcome of a filter on a person property. Many flags ask the same, so each answer is kept for the evaluation.
func (s *Scratch) property(f *filter) truth {
	kept := &s.tests[f.test]
	if *kept == untested {
		*kept = unknown
		if p := s.get(f.slot); p != nil {
			*kept = truthOf(f.matcher.match(s, p))
		}
	}
	return *kept
}

func (s *Scratch) testGroup(f *filter) (t truth, why fault) {
	if f.group < 0 {
		return truthOf(f.matcher.absent()), noFault
	}
	p := s.get(f.slot)
	switch state := &s.groups[f.group]; {
	case p != nil:
		return truthOf(f.matcher.match(s, p)), noFault
	case state.absent:
		return truthOf(f.matcher.absent()), noFault
	case !state.known:
		return unknown, faultGroups
	default:
		return unknown, faultProperty
	}
}

func (s *Scratch) testFlag(f *filter) (t truth, why fault) {
	value := s.values[f.flag.place]
	if value == nil {
		return unknown, faultDependency
	}
	switch f.wants {
	case wantsOn:
		return truthOf(value.Enabled), noFault
	case wantsOff:
		return truthOf(!value.Enabled), noFault
	case wantsVariant:
		return truthOf(value.named && value.Variant == f.text.variant), noFault
	default:
		return no, noFault
	}
}
