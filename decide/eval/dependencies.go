package eval

import "fmt"

// topological orders nodes so that each comes after those it needs, otherwise as they came. Nodes that are part of a cycle or need one cannot be
// ordered. It does not recurse: a chain may be of any length.
func topological[T comparable](nodes []T, needs func(T) []T) (ordered, rest []T) {
	open := make(map[T]int, len(nodes))
	neededBy := make(map[T][]T)
	for _, n := range nodes {
		for _, need := range needs(n) {
			open[n]++
			neededBy[need] = append(neededBy[need], n)
		}
	}
	ordered = make([]T, 0, len(nodes))
	for _, n := range nodes {
		if open[n] == 0 {
			ordered = append(ordered, n)
		}
	}
	for i := 0; i < len(ordered); i++ {
		for _, n := range neededBy[ordered[i]] {
			if open[n]--; open[n] == 0 {
				ordered = append(ordered, n)
			}
		}
	}
	for _, n := range nodes {
		if open[n] > 0 {
			rest = append(rest, n)
		}
	}
	return ordered, rest
}

// orderFlags resolves the references between flags and orders the program by them. What depends, at whatever distance, on a flag that does not exist or
// on itself has a missing dependency; what depends on a document of an unknown kind is refused.
func (c *compiler) orderFlags() {
	for _, f := range c.p.flags {
		for _, id := range c.references[f] {
			need := c.byID[id]
			if need == nil || need == f {
				f.missing = true
				continue
			}
			f.needs = append(f.needs, need)
		}
		c.resolve(f)
	}
	ordered, cyclic := topological(c.p.flags, func(f *Flag) []*Flag { return f.needs })
	for _, f := range ordered {
		for _, need := range f.needs {
			f.missing = f.missing || need.missing
			if need.refused && !f.refused {
				f.refused = true
				c.refuse(f, fmt.Sprintf("depends on flag %d, which is refused", need.ID))
			}
		}
	}
	for _, f := range cyclic {
		f.missing = true
	}
	c.p.flags = append(ordered, cyclic...)
	for i, f := range c.p.flags {
		f.place = i
	}
}

// resolve points the flag's dependency filters at the flags they name.
func (c *compiler) resolve(f *Flag) {
	each := func(filters []filter) {
		for i := range filters {
			if filters[i].source != ofFlag {
				continue
			}
			if filters[i].flag = c.byID[flagID(filters[i].text.key)]; filters[i].flag == nil {
				filters[i].source = ofNothing
			}
		}
	}
	for i := range f.conditions {
		each(f.conditions[i].filters)
	}
	if f.super != nil {
		each(f.super.filters)
	}
}
