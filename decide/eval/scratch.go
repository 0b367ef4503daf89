package eval

import (
	"strings"
	"unsafe"
)

// Scratch is the memory that one evaluation uses and the next one reuses. The zero value is ready; it must not be shared between goroutines.
type Scratch struct {
	decision Decision
	program  *Program
	clock    clock
	rec      *recorder // of Explain; nil otherwise

	generation uint32
	slots      []slot
	groups     []groupState
	cohorts    []truth // by place in the program's order, as far as done
	done       int
	tests      []truth   // by place of the test
	values     []*Answer // by place of the flag; nil = failed
	wanted     []want
	device     string // the device id of the request, "" = none

	text []byte // derived texts of properties live here until the next evaluation
	sha1 hasher
}

// maxKeptText is how much memory for derived texts survives an evaluation.
const maxKeptText = 64 << 10

// slot is what the request says about one property that some filter reads.
type slot struct {
	value      Value
	generation uint32 // the evaluation in which it was set
	derived    derived
	isNumber   bool
	number     float64
	plain      string // see text
	folded     string // see fold
	ascii      string // see foldASCII
}

// derived says which derived forms of a slot's value are there.
type derived uint8

const (
	hasPlain derived = 1 << iota
	hasFolded
	hasASCII
	hasNumber
)

func (s *Scratch) set(i int32, v Value) {
	p := &s.slots[i]
	p.value, p.generation, p.derived = v, s.generation, 0
}

// get is the slot, nil if the request does not set it.
func (s *Scratch) get(i int32) *slot {
	if p := &s.slots[i]; p.generation == s.generation {
		return p
	}
	return nil
}

// text is the text that the property is compared by.
func (p *slot) text() string {
	if p.derived&hasPlain == 0 {
		p.derived |= hasPlain
		p.plain = valueText(p.value)
	}
	return p.plain
}

// fold is the text in lower case.
func (s *Scratch) fold(p *slot) string {
	if p.derived&hasFolded == 0 {
		p.derived |= hasFolded
		text := p.text()
		if plainASCII(text) {
			p.folded = s.foldASCII(p)
		} else {
			p.folded = lower(text)
		}
	}
	return p.folded
}

func plainASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}

// foldASCII is the text with the letters A to Z in lower case.
func (s *Scratch) foldASCII(p *slot) string {
	if p.derived&hasASCII == 0 {
		p.derived |= hasASCII
		p.ascii = p.text()
		if upperASCII(p.ascii) >= 0 {
			start := len(s.text)
			s.text = append(s.text, p.ascii...)
			folded := s.text[start:len(s.text):len(s.text)]
			foldASCII(folded)
			p.ascii = unsafe.String(unsafe.SliceData(folded), len(folded)) // not written again before the next evaluation
		}
	}
	return p.ascii
}

// float is the value as a number.
func (p *slot) float() (float64, bool) {
	if p.derived&hasNumber == 0 {
		p.derived |= hasNumber
		p.number, p.isNumber = parseFloat(p.text())
	}
	return p.number, p.isNumber
}

// groupState is what the request says about a group type.
type groupState struct {
	key    string
	usable bool // there is a key to bucket by
	known  bool // the request says, or lets see, whether there is such a group
	absent bool // there certainly is no such group: its properties are absent, not unknown
}

// begin loads the request.
func (s *Scratch) begin(p *Program, in *Input) {
	s.decision.Results, s.decision.Errors, s.decision.RegexLimits = s.decision.Results[:0], false, 0
	s.program = p
	s.clock = clock{in.Now, p.zone}
	s.generation++
	if len(s.slots) < p.slots || s.generation == 0 {
		s.slots, s.generation = make([]slot, p.slots), 1
	}
	s.groups = resize(s.groups, len(p.groups))
	s.cohorts = resize(s.cohorts, len(p.cohorts))
	s.done = 0
	s.tests = resize(s.tests, p.tests)
	for i := range s.tests {
		s.tests[i] = untested
	}
	s.values = resize(s.values, len(p.flags))
	if s.text = s.text[:0]; cap(s.text) > maxKeptText {
		s.text = nil
	}
	s.loadPerson(p, in)
	for i := range p.groups {
		s.groups[i] = s.loadGroup(&p.groups[i], in)
	}
}

func resize[T any](list []T, n int) []T {
	if cap(list) < n {
		return make([]T, n)
	}
	return list[:n]
}

// loadPerson sets the slots of person properties: what the request says, the distinct id, GeoIP where there are gaps, then what follows from these.
func (s *Scratch) loadPerson(p *Program, in *Input) {
	for i := range in.Person {
		if at, ok := p.person[in.Person[i].Key]; ok {
			s.set(at, in.Person[i].Value)
		}
	}
	if at, ok := p.person["distinct_id"]; ok && s.get(at) == nil {
		s.set(at, Value{String, in.DistinctID})
	}
	for i := range in.GeoIP {
		if at, ok := p.person[in.GeoIP[i].Key]; ok {
			if set := s.get(at); set == nil || set.value.Kind == Null {
				s.set(at, in.GeoIP[i].Value)
			}
		}
	}
	for _, d := range p.derivations {
		if from := s.get(d.from); from != nil && s.get(d.to) == nil {
			s.set(d.to, from.value)
		}
	}
	s.device = in.DeviceID
	if s.device == "" && p.device >= 0 {
		if id := s.get(p.device); id != nil && id.value.Kind == String {
			s.device = id.value.Text
		}
	}
}

func (s *Scratch) loadGroup(g *group, in *Input) groupState {
	if !g.mapped {
		return groupState{known: len(in.Groups) == 0, absent: len(in.Groups) == 0}
	}
	state := groupState{known: true, absent: true}
	for i := range in.Groups {
		given := &in.Groups[i]
		if given.Type != g.name {
			continue
		}
		state.absent = state.absent && !given.Usable && len(given.Properties) == 0
		if len(g.keys) > 0 {
			for j := range given.Properties {
				if at, ok := g.keys[given.Properties[j].Key]; ok {
					s.set(at, given.Properties[j].Value)
				}
			}
		}
		if given.Usable {
			state.key, state.usable = given.Key, true
			if at, ok := g.keys["$group_key"]; ok {
				s.set(at, Value{String, given.Key})
			}
		}
	}
	return state
}

// derivation sets a property from another one when the request sets only that.
type derivation struct {
	from, to int32
}

// initialOf is the property that PostHog fills with the value of another one until it has been stored; "" for properties that are not copied.
func initialOf(key string) string {
	switch key {
	case "$app_build", "$app_name", "$app_namespace", "$app_version", "$browser", "$browser_version", "$device_type", "$current_url", "$pathname",
		"$os", "$os_version", "$referring_domain", "$referrer", "$screen_height", "$screen_width", "$viewport_height", "$viewport_width",
		"$raw_user_agent":
		return "$initial_" + strings.TrimPrefix(key, "$")
	case "utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term", "gclid", "gad_source", "gclsrc", "dclid", "gbraid", "wbraid", "fbclid",
		"msclkid", "twclid", "li_fat_id", "mc_cid", "igshid", "ttclid", "rdt_cid", "epik", "qclid", "sccid", "irclid", "_kx":
		return "$initial_" + key
	}
	return ""
}
