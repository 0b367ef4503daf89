package eval

import (
	"slices"
	"strings"
	"time"
)

// operator is what a filter does with a property. The negated forms share the operator of the plain one, see matcher.not.
type operator uint8

const (
	opExact operator = iota
	opIsSet
	opContains
	opPrefix
	opSuffix
	opRegex
	opGreater
	opGreaterEqual
	opLess
	opLessEqual
	opBetween
	opBefore
	opAfter
	opOn
	opSemver
	opSemverRange
	opNever // not an operator for properties: never matches
)

// operatorNames are the operators as definitions spell them.
var operatorNames = map[string]struct {
	op  operator
	not bool
	arg string // the version comparison
}{
	"exact": {op: opExact}, "is_not": {op: opExact, not: true},
	"is_set": {op: opIsSet}, "is_not_set": {op: opIsSet, not: true},
	"icontains": {op: opContains}, "not_icontains": {op: opContains, not: true},
	"icontains_multi": {op: opContains, arg: "multi"}, "not_icontains_multi": {op: opContains, not: true, arg: "multi"},
	"starts_with": {op: opPrefix}, "not_starts_with": {op: opPrefix, not: true},
	"ends_with": {op: opSuffix}, "not_ends_with": {op: opSuffix, not: true},
	"regex": {op: opRegex}, "not_regex": {op: opRegex, not: true},
	"gt": {op: opGreater}, "gte": {op: opGreaterEqual}, "lt": {op: opLess}, "lte": {op: opLessEqual},
	"between": {op: opBetween}, "not_between": {op: opBetween, not: true},
	"is_date_before": {op: opBefore}, "is_date_after": {op: opAfter}, "is_date_exact": {op: opOn},
	"is_relative_date_before": {op: opBefore}, "is_relative_date_after": {op: opAfter},
	"semver_eq": {op: opSemver, arg: "="}, "semver_neq": {op: opSemver, not: true, arg: "="},
	"semver_gt": {op: opSemver, arg: ">"}, "semver_gte": {op: opSemver, arg: ">="},
	"semver_lt": {op: opSemver, arg: "<"}, "semver_lte": {op: opSemver, arg: "<="},
	"semver_tilde": {op: opSemverRange, arg: "~"}, "semver_caret": {op: opSemverRange, arg: "^"},
	"semver_wildcard": {op: opSemverRange, arg: "*"},
	"in":              {op: opNever}, "not_in": {op: opNever}, "flag_evaluates_to": {op: opNever},
}

// matcher is a compiled operator with its value. It answers for any property value; what PostHog's server calls an error is no match, also for
// negated operators.
type matcher struct {
	op        operator
	not       bool
	valueless bool // the filter has no value: matches nothing
	foreign   bool // the filter has a pattern that cannot be run here
	invalid   bool // the filter's value means nothing to the operator: a property that is there does not match
	boolean   bool // opExact compares truth instead of text
	truthy    bool // the truth it wants
	texts     []string
	set       map[string]struct{} // of texts, if there are many
	low, high float64
	pattern   *pattern
	versions  *versionTest
	date      *dateTest
}

// versionTest is what opSemver and opSemverRange compare with.
type versionTest struct {
	order   string // the comparison of opSemver
	version version
	within  requirement
}

// dateTest is what the date operators compare with.
type dateTest struct {
	text    string
	isFixed bool // the date does not depend on now
	fixed   time.Time
}

// manyTexts is where looking up beats comparing one by one.
const manyTexts = 12

// compileMatcher compiles an operator; value is nil if the filter has none. ok is false for an operator that does not exist.
func (c *compiler) compileMatcher(name string, value *node) (m *matcher, ok bool) {
	spec, ok := operatorNames[name]
	if !ok {
		return nil, false
	}
	m = &matcher{op: spec.op, not: spec.not, valueless: value == nil && spec.op != opIsSet}
	if value == nil {
		return m, true
	}
	switch m.op {
	case opExact:
		m.compileExact(value, c.explicitBooleans)
	case opContains:
		m.texts = texts(value, lowerASCII, spec.arg == "multi")
	case opPrefix, opSuffix:
		m.texts = texts(value, lowerASCII, false)
	case opRegex:
		text := strings.Clone(nodeText(value))
		m.pattern, ok = compilePattern(text, c.regexTimeout)
		m.invalid, m.foreign = !ok, setOperations(text)
	case opGreater, opGreaterEqual, opLess, opLessEqual:
		m.low, ok = parseFloat(nodeText(value))
		m.invalid = !ok
	case opBetween:
		m.compileBetween(value)
	case opBefore, opAfter, opOn:
		m.invalid = value.Kind != String
		m.date = &dateTest{text: strings.Clone(value.Text)}
		m.date.fixed, m.date.isFixed = fixedDate(m.date.text, c.location())
	case opSemver:
		m.versions = &versionTest{order: spec.arg}
		m.versions.version, ok = parseVersion(strings.Clone(nodeText(value)))
		m.invalid = !ok
	case opSemverRange:
		m.versions = &versionTest{}
		m.versions.within, ok = parseRange(spec.arg, strings.Clone(nodeText(value)))
		m.invalid = !ok
	}
	return m, true
}

// nodeText is the text that a filter's value is compared by.
func nodeText(n *node) string {
	if n.Kind == Array || n.Kind == Object {
		return string(appendCompact(nil, n))
	}
	return scalarText(n.Value)
}

// texts are the texts of a value, or of its elements.
func texts(n *node, change func(string) string, elements bool) []string {
	if !elements || n.Kind != Array {
		return []string{strings.Clone(change(nodeText(n)))}
	}
	list := make([]string, 0, len(n.items))
	for i := range n.items {
		list = append(list, strings.Clone(change(nodeText(&n.items[i]))))
	}
	return list
}

func (m *matcher) compileExact(value *node, explicit bool) {
	if boolish(value) && (!explicit || value.Kind == Array && len(value.items) == 0) {
		m.boolean, m.truthy = true, truthy(value)
		return
	}
	m.texts = texts(value, lower, true)
	if len(m.texts) >= manyTexts {
		m.set = make(map[string]struct{}, len(m.texts))
		for _, text := range m.texts {
			m.set[text] = struct{}{}
		}
	}
}

// boolish says whether a value is a boolean, spells one, or is a list of such values.
func boolish(n *node) bool {
	switch n.Kind {
	case True, False:
		return true
	case String:
		text := lower(n.Text)
		return text == "true" || text == "false"
	case Array:
		return !slices.ContainsFunc(n.items, func(item node) bool { return !boolish(&item) })
	}
	return false
}

// truthy says whether a value is true, spells it, or is a list of such values.
func truthy(n *node) bool {
	switch n.Kind {
	case True:
		return true
	case String:
		return lower(n.Text) == "true"
	case Array:
		return !slices.ContainsFunc(n.items, func(item node) bool { return !truthy(&item) })
	}
	return false
}

func (m *matcher) compileBetween(value *node) {
	m.invalid = true
	if value.Kind != Array || len(value.items) != 2 {
		return
	}
	var okLow, okHigh bool
	m.low, okLow = parseFloat(nodeText(&value.items[0]))
	m.high, okHigh = parseFloat(nodeText(&value.items[1]))
	m.invalid = !okLow || !okHigh || !(m.low <= m.high) // false for NaN
}

// absent is the answer for a property that is certainly not there.
func (m *matcher) absent() bool {
	switch m.op {
	case opExact, opIsSet, opContains, opPrefix, opSuffix, opRegex, opBetween:
		return m.not && !m.valueless
	default:
		return false
	}
}

// match is the answer for a property that is there.
func (m *matcher) match(s *Scratch, p *slot) bool {
	if m.valueless || m.invalid {
		return false
	}
	switch m.op {
	case opIsSet:
		return !m.not
	case opExact:
		return m.equal(s, p) != m.not
	case opContains:
		text := s.foldASCII(p)
		for _, part := range m.texts {
			if strings.Contains(text, part) {
				return !m.not
			}
		}
		return m.not
	case opPrefix:
		return strings.HasPrefix(s.foldASCII(p), m.texts[0]) != m.not
	case opSuffix:
		return strings.HasSuffix(s.foldASCII(p), m.texts[0]) != m.not
	case opRegex:
		found, ok := m.pattern.find(p.text())
		if !ok {
			s.decision.RegexLimits++
		}
		return ok && found != m.not
	case opBefore, opAfter, opOn:
		return m.compareDate(s, p)
	case opSemver, opSemverRange:
		return m.compareVersion(p)
	case opNever:
		return false
	default:
		return m.compareNumber(p)
	}
}

func (m *matcher) equal(s *Scratch, p *slot) bool {
	if m.boolean {
		return truthyValue(p.value) == m.truthy
	}
	text := s.fold(p)
	if m.set != nil {
		_, ok := m.set[text]
		return ok
	}
	return slices.Contains(m.texts, text)
}

func truthyValue(v Value) bool {
	if v.Kind != Array {
		return truthy(&node{Value: v})
	}
	n, err := parseJSON(v.Text)
	return err == nil && truthy(&n)
}

func (m *matcher) compareNumber(p *slot) bool {
	f, ok := p.float()
	if !ok || f != f {
		return false
	}
	switch m.op {
	case opGreater:
		return f > m.low
	case opGreaterEqual:
		return f >= m.low
	case opLess:
		return f < m.low
	case opLessEqual:
		return f <= m.low
	default:
		return (f >= m.low && f <= m.high) != m.not
	}
}

func (m *matcher) compareDate(s *Scratch, p *slot) bool {
	var date time.Time
	ok := false
	switch p.value.Kind {
	case String, Number:
		var seconds float64
		if seconds, ok = p.float(); ok {
			date, ok = unixDate(seconds)
		} else if p.value.Kind == String {
			date, ok = s.clock.date(p.value.Text)
		}
	}
	if !ok {
		return false
	}
	than := m.date.fixed
	if !m.date.isFixed {
		if than, ok = s.clock.date(m.date.text); !ok {
			return false
		}
	}
	switch m.op {
	case opBefore:
		return date.Before(than)
	case opAfter:
		return date.After(than)
	default:
		return date.Equal(than)
	}
}

func (m *matcher) compareVersion(p *slot) bool {
	v, ok := parseVersion(p.text())
	if !ok {
		return false
	}
	if m.op == opSemverRange {
		return m.versions.within.matches(v)
	}
	order := v.compare(m.versions.version)
	switch m.versions.order {
	case ">":
		return order > 0
	case ">=":
		return order >= 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	default:
		return (order == 0) != m.not
	}
}
