package decide

import (
	"encoding/json"
	"slices"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

// cohorts are the team's cohorts that SDKs could evaluate, by id: their property trees.
type cohorts map[string]json.RawMessage

// cohortNode is a node of a cohort's tree: a group with values, or a property.
type cohortNode struct {
	Type     string          `json:"type"`
	Values   []cohortNode    `json:"values"`
	Value    json.RawMessage `json:"value"`
	Negation bool            `json:"negation"`

	text json.RawMessage
}

// UnmarshalJSON keeps the node's own text beside its members.
func (n *cohortNode) UnmarshalJSON(text []byte) error {
	type plain cohortNode
	err := json.Unmarshal(text, (*plain)(n))
	n.text = slices.Clone(text)
	return err
}

func (n *cohortNode) isGroup() bool { return n.Values != nil }

// readCohorts reads the cohorts. Static and deleted ones, and those without a tree, are left out.
func readCohorts(team *flagcache.Team) cohorts {
	list := cohorts{}
	for _, record := range team.Cohorts {
		c := readColumns(record.JSON)
		if c.truth("deleted") || c.truth("is_static") {
			continue
		}
		var filters document
		if json.Unmarshal(c["filters"], &filters) == nil && len(filters["properties"]) > 0 {
			list[record.Key] = filters["properties"]
		} else if tree := legacyTree(c["groups"]); tree != nil {
			list[record.Key] = tree
		}
	}
	return list
}

// legacyTree is the tree of a cohort from before there were filters: one of its groups must match.
func legacyTree(groups json.RawMessage) json.RawMessage {
	var list []struct {
		Properties []json.RawMessage `json:"properties"`
	}
	if json.Unmarshal(groups, &list) != nil || len(list) == 0 {
		return nil
	}
	type node struct {
		Type   string `json:"type"`
		Values any    `json:"values"`
	}
	var alternatives []node
	for _, group := range list {
		alternatives = append(alternatives, node{"AND", group.Properties})
	}
	return marshal(node{"OR", alternatives})
}

// collect adds the cohorts that the flag needs, and those that they need.
func (c cohorts) collect(f *definition, into map[string]json.RawMessage) {
	var wanted []string
	for _, p := range slices.Concat(f.props...) {
		if p.text("type") == "cohort" {
			wanted = append(wanted, p.text("value"))
		}
	}
	for len(wanted) > 0 {
		id := wanted[len(wanted)-1]
		wanted = wanted[:len(wanted)-1]
		tree, ok := c[id]
		if _, have := into[id]; !ok || have {
			continue
		}
		into[id] = tree
		var root cohortNode
		if json.Unmarshal(tree, &root) == nil {
			wanted = root.cohorts(wanted)
		}
	}
}

// cohorts appends the ids of the cohorts that the tree refers to.
func (n *cohortNode) cohorts(ids []string) []string {
	if n.Type == "cohort" && !n.isGroup() {
		return append(ids, columns{"value": n.Value}.text("value"))
	}
	for i := range n.Values {
		ids = n.Values[i].cohorts(ids)
	}
	return ids
}

// expand replaces the flag's one cohort condition by conditions on person properties, for SDKs that know no cohorts. It does so only where that is exact:
// the cohort is the condition's only property, no condition overrides the variant, and the cohort consists of person properties, none negated, in a
// form that conditions can express. Every other flag stays as it is.
func (c cohorts) expand(f *definition, rules eval.Rules) {
	isIn := func(operator string) bool {
		return operator == "" || operator == "in" || operator == "exact" && rules == eval.Rules2023
	}
	at := -1
	for i, properties := range f.props {
		if v := f.groups[i].text("variant"); v != "" {
			return
		}
		for _, p := range properties {
			if p.text("type") != "cohort" {
				continue
			}
			if at >= 0 || len(properties) > 1 || !isIn(p.text("operator")) || p["negation"] != nil {
				return
			}
			at = i
		}
	}
	if at < 0 {
		return
	}
	var root cohortNode
	if json.Unmarshal(c[f.props[at][0].text("value")], &root) != nil {
		return
	}
	alternatives := root.alternatives()
	if len(alternatives) == 0 {
		return
	}
	var groups []document
	for _, properties := range alternatives {
		group := document{}
		for name, value := range f.groups[at] {
			group[name] = value
		}
		group["properties"] = marshal(properties)
		groups = append(groups, group)
	}
	f.filters["groups"] = marshal(slices.Concat(f.groups[:at:at], groups, f.groups[at+1:]))
}

// alternatives is the tree as a list of conjunctions of person properties, nil if it is not one.
func (n *cohortNode) alternatives() [][]json.RawMessage {
	for n.isGroup() && len(n.Values) == 1 {
		n = &n.Values[0]
	}
	if !n.isGroup() || n.Type == "AND" {
		if all := n.conjunction(); all != nil {
			return [][]json.RawMessage{all}
		}
		return nil
	}
	var list [][]json.RawMessage
	for i := range n.Values {
		one := n.Values[i].alternatives()
		if one == nil {
			return nil
		}
		list = append(list, one...)
	}
	return list
}

// conjunction is the node as a list of person properties that must all match, nil if it is not one.
func (n *cohortNode) conjunction() []json.RawMessage {
	if !n.isGroup() {
		if n.Type != "person" || n.Negation {
			return nil
		}
		return []json.RawMessage{n.text}
	}
	if n.Type != "AND" && len(n.Values) != 1 {
		return nil
	}
	var all []json.RawMessage
	for i := range n.Values {
		inner := n.Values[i].conjunction()
		if inner == nil {
			return nil
		}
		all = append(all, inner...)
	}
	return all
}
