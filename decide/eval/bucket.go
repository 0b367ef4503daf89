package eval

// bucket hashes the identifiers of one flag.
type bucket struct {
	s    *Scratch
	flag *Flag
	in   *Input

	person       string // what persons are hashed by
	personKnown  bool   // false if the database may hold another one
	deviceNeeded bool   // the flag buckets by a device that the request does not name

	hashed bool // hash is that of group
	hash   float64
	hashOf int32
}

// identify finds what persons are hashed by: the device if the flag is by device; with experience continuity the stored hash key, which is the anonymous
// id if the request brings one and otherwise not known here; else the distinct id.
func (b *bucket) identify() {
	b.person, b.personKnown = b.in.DistinctID, true
	switch f := b.flag; {
	case f.byDevice && b.s.device != "":
		b.person = b.s.device
	case f.continuity && b.in.AnonDistinctID != "":
		b.person, b.deviceNeeded = b.in.AnonDistinctID, f.byDevice
	default:
		b.personKnown, b.deviceNeeded = !f.continuity, f.byDevice
	}
	if b.s.rec != nil {
		b.s.rec.identity(b)
	}
}

// standing says whether a condition can be tested at all.
type standing uint8

const (
	testable standing = iota
	noGroup           // the request has no such group
	noDevice          // the request names no device
)

func (b *bucket) standing(c *condition) standing {
	switch {
	case c.group < 0 && b.deviceNeeded:
		if b.s.rec != nil {
			b.s.rec.step(c.index, no, "the request names no device to bucket by")
		}
		return noDevice
	case c.group >= 0 && b.s.groups[c.group].known && !b.s.groups[c.group].usable:
		if b.s.rec != nil {
			b.s.rec.step(c.index, no, "the request has no group of the condition's type")
		}
		return noGroup
	}
	return testable
}

// identifier is what the group type, -1 for persons, is hashed by.
func (b *bucket) identifier(group int32) (id string, known bool) {
	if group < 0 {
		return b.person, b.personKnown
	}
	g := &b.s.groups[group]
	return g.key, g.known
}

// rollout says whether the condition's share of identifiers includes the request's.
func (b *bucket) rollout(c *condition) (t truth, why fault) {
	t, why = b.share(c)
	if b.s.rec != nil {
		b.s.rec.rollout(b, c, t)
	}
	return t, why
}

func (b *bucket) share(c *condition) (t truth, why fault) {
	if c.rollout == 100 {
		return yes, noFault
	}
	id, known := b.identifier(c.group)
	if known {
		return truthOf(b.position(c.group, id) <= c.threshold), noFault
	}
	switch { // no identifier has a hash outside 0 to 1, and none but the empty one has 0
	case c.rollout > 100:
		return yes, noFault
	case c.rollout < 0 || c.rollout == 0 && id != "":
		return no, noFault
	case c.group >= 0:
		return unknown, faultGroups
	default:
		return unknown, faultHashKey
	}
}

// position is where the identifier lies between 0 and 1 for the flag's rollouts. Conditions of one kind share it.
func (b *bucket) position(group int32, id string) float64 {
	if !b.hashed || b.hashOf != group {
		b.hashed, b.hashOf = true, group
		b.hash = b.s.hash(b.flag.prefix, id, "")
	}
	return b.hash
}

// answer is the value of a condition that matches; nil if it cannot be known.
func (b *bucket) answer(c *condition) (a *Answer, why fault) {
	a, why = b.choose(c)
	if b.s.rec != nil && len(b.flag.variants) > 0 {
		b.s.rec.variant(b, c, a)
	}
	return a, why
}

func (b *bucket) choose(c *condition) (a *Answer, why fault) {
	if c.override != nil {
		return c.override, noFault
	}
	if b.flag.anyHash != nil && len(b.flag.variants) == 0 {
		return b.flag.on, noFault
	}
	id, known := b.identifier(c.group)
	switch {
	case known:
		return b.flag.variantAt(b.s.hash(b.flag.prefix, id, "variant")), noFault
	case b.flag.anyHash != nil:
		return b.flag.anyHash, noFault
	case c.group >= 0:
		return nil, faultGroups
	default:
		return nil, faultHashKey
	}
}

// variantAt is the variant whose range a hash falls into; plain on if there is none.
func (f *Flag) variantAt(hash float64) *Answer {
	for i := range f.variants {
		if hash < f.variants[i].boundary {
			return f.variants[i].answer
		}
	}
	return f.on
}

// inHoldout says whether the holdout takes the identifier out. Stored hash keys do not matter to it, and an empty identifier is hashed like any other.
func (b *bucket) inHoldout() truth {
	h := b.flag.holdout
	id, known := b.person, true
	if b.flag.group >= 0 {
		id, known = b.identifier(b.flag.group)
	}
	var t truth
	switch {
	case h.percentage >= 100:
		t = yes
	case !known:
		t = unknown
	default:
		t = truthOf(b.s.hashAll("holdout-", id, "") <= h.threshold)
	}
	if b.s.rec != nil {
		b.s.rec.holdout(b, id, t)
	}
	return t
}
