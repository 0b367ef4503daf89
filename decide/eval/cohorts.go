package eval

import (
	"fmt"
	"slices"
	"strings"
)

// cohort is a cohort that some filter refers to.
type cohort struct {
	id     int64
	place  int   // in the program's order
	fault  fault // why membership cannot be known
	detail string
	root   cohortNode
	needs  []*cohort
}

// cohortNode is a node of a cohort's tree, which is no deeper than a document may be nested.
type cohortNode struct {
	any  bool    // one of the nodes must hold instead of all
	leaf *filter // nil for an inner node
	kids []cohortNode
}

// cohort is the cohort with the id; it is compiled later, so that a chain of references needs no recursion.
func (c *compiler) cohort(id int64) *cohort {
	known := c.cohorts[id]
	if known == nil {
		known = &cohort{id: id}
		c.cohorts[id] = known
		c.waiting = append(c.waiting, known)
	}
	return known
}

func (c *compiler) compileCohorts() {
	var all []*cohort
	for len(c.waiting) > 0 {
		next := c.waiting[0]
		c.waiting = c.waiting[1:]
		all = append(all, next)
		c.compileCohort(next)
	}
	ordered, cyclic := topological(all, func(co *cohort) []*cohort { return co.needs })
	for _, co := range ordered {
		for _, need := range co.needs {
			if need.fault != noFault && need.fault != faultMembership {
				co.fault, co.detail = need.fault, need.detail
			}
		}
	}
	nameCycles(cyclic)
	c.p.cohorts = append(ordered, cyclic...)
	for i, co := range c.p.cohorts {
		co.place = i
	}
}

// nameCycles marks cohorts that cannot be ordered. From each it follows the references until it meets a cohort again: the first one met twice on a walk
// closes a cycle. Each cohort is walked over once.
func nameCycles(cyclic []*cohort) {
	open := make(map[*cohort]bool, len(cyclic))
	for _, co := range cyclic {
		open[co] = true
	}
	for _, co := range cyclic {
		var walk []*cohort
		for open[co] {
			open[co] = false
			walk = append(walk, co)
			next := slices.IndexFunc(co.needs, func(need *cohort) bool { _, known := open[need]; return known })
			co = co.needs[next] // what cannot be ordered needs something else that cannot
		}
		detail := co.detail // of an earlier walk
		if detail == "" {
			detail = fmt.Sprintf("cohort %d closes a cycle", co.id)
		}
		for _, met := range walk {
			met.fault, met.detail = faultCohortCycle, detail
		}
	}
}

func (c *compiler) compileCohort(co *cohort) {
	record, exists := c.cohortRecords[co.id]
	if !exists {
		co.fault, co.detail = faultCohortMissing, fmt.Sprintf("cohort %d does not exist", co.id)
		return
	}
	row, err := parseJSON(string(record))
	if err != nil {
		co.fault, co.detail = faultCohortFilters, fmt.Sprintf("cohort %d: %v", co.id, err)
		return
	}
	if row.member("is_static").truth() {
		co.fault, co.detail = faultMembership, fmt.Sprintf("cohort %d is static", co.id)
		return
	}
	properties := row.present("filters").present("properties")
	groups := row.present("groups")
	b := cohortBuilder{c, co}
	switch {
	case properties.is(Object) && len(properties.items) > 0:
		co.root, err = b.tree(properties)
	case properties.is(Array):
		co.root, err = b.list(properties.items, false)
	case groups.is(Array):
		co.root, err = b.legacy(groups.items)
	default:
		co.root = cohortNode{any: true} // no definition: no members
	}
	if err != nil {
		co.fault, co.needs = faultCohortFilters, nil
		co.detail = fmt.Sprintf("cohort %d: %v", co.id, err)
	}
}

// cohortBuilder compiles the definition of one cohort.
type cohortBuilder struct {
	*compiler
	owner *cohort
}

// tree compiles a node of any shape: an inner node has values, a leaf has none.
func (b cohortBuilder) tree(n *node) (cohortNode, error) {
	values := n.member("values")
	if values == nil {
		return b.leaf(n)
	}
	kind := n.member("type")
	if !values.is(Array) || !kind.is(String) {
		return cohortNode{}, unreadable("a node without type or list")
	}
	switch strings.ToUpper(kind.Text) {
	case "OR":
		return b.list(values.items, true)
	case "AND", "PROPERTY":
		return b.list(values.items, false)
	}
	return cohortNode{}, unreadable("node type %q", kind.Text)
}

func (b cohortBuilder) list(items []node, one bool) (cohortNode, error) {
	inner := cohortNode{any: one, kids: make([]cohortNode, 0, len(items))}
	for i := range items {
		kid, err := b.tree(&items[i])
		if err != nil {
			return cohortNode{}, err
		}
		inner.kids = append(inner.kids, kid)
	}
	return inner, nil
}

func (b cohortBuilder) leaf(n *node) (cohortNode, error) {
	kind := "person"
	if t := n.present("type"); t != nil {
		kind = t.Text
	}
	f := filter{group: -1, not: n.member("negation").truth(), text: &filterText{}}
	if key := n.member("key"); key.is(String) {
		f.text.key = strings.Clone(key.Text)
	}
	if o := n.present("operator"); o != nil {
		f.text.operator = strings.Clone(o.Text)
	}
	value := n.member("value")
	if value != nil {
		f.text.value = strings.Clone(value.raw)
	}
	switch kind {
	case "person", "person_metadata", "group":
		if _, known := operatorNames[orExact(f.text.operator)]; !known || f.text.key == "" {
			return cohortNode{}, unreadable("operator %q of property %q", f.text.operator, f.text.key)
		}
		b.personFilter(&f, kind, value)
	case "cohort", "static-cohort", "dynamic-cohort", "precalculated-cohort":
		inverted := f.not
		b.cohortFilter(&f, value)
		if f.fault != noFault {
			return cohortNode{}, unreadable("a reference without cohort id")
		}
		if f.cohort != nil {
			b.owner.needs = append(b.owner.needs, f.cohort)
		}
		f.not = f.not != inverted
	default:
		f.source, f.fault = ofUnknown, faultMembership
	}
	return cohortNode{leaf: &f}, nil
}

// legacy compiles the definition that cohorts had before 2022: a list of which one has to hold.
func (b cohortBuilder) legacy(groups []node) (cohortNode, error) {
	root := cohortNode{any: true}
	for i := range groups {
		g := &groups[i]
		properties := g.present("properties")
		var kid cohortNode
		var err error
		switch {
		case g.present("action_id") != nil || g.present("event_id") != nil || g.present("days") != nil:
			kid.leaf = &filter{source: ofUnknown, fault: faultMembership, text: &filterText{}}
		case properties.is(Array):
			kid, err = b.list(properties.items, false)
		case properties.is(Object) && properties.member("values") != nil:
			kid, err = b.tree(properties)
		case properties.is(Object):
			kid = b.pairs(properties)
		default:
			continue // says nothing
		}
		if err != nil {
			return cohortNode{}, err
		}
		root.kids = append(root.kids, kid)
	}
	return root, nil
}

// pairs compiles the oldest form of properties: {"key__operator": value}.
func (b cohortBuilder) pairs(properties *node) cohortNode {
	inner := cohortNode{}
	for i, name := range properties.names {
		f := filter{group: -1, text: &filterText{key: strings.Clone(name), value: strings.Clone(properties.items[i].raw)}}
		if at := strings.LastIndex(name, "__"); at > 0 {
			if _, known := operatorNames[name[at+2:]]; known {
				f.text.key, f.text.operator = f.text.key[:at], f.text.key[at+2:]
			}
		}
		b.personFilter(&f, "person", &properties.items[i])
		inner.kids = append(inner.kids, cohortNode{leaf: &f})
	}
	return inner
}
