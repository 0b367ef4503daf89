package eval

import (
	"cmp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // team time zones must not depend on what the machine has

	"github.com/everflag/everflag/internal/flagcache"
)

// compiler compiles one team.
type compiler struct {
	p                *Program
	rules            Rules
	regexTimeout     time.Duration
	explicitBooleans bool // property_matching_version 2
	timezone         string
	groupNames       map[int64]string
	contexts         map[int64][]string // flag id → names
	experiments      map[int64]bool     // flag id
	cohortRecords    map[int64][]byte
	cohorts          map[int64]*cohort
	waiting          []*cohort // referred to, not yet compiled
	byID             map[int64]*Flag
	references       map[*Flag][]int64     // the flags that a flag depends on
	tests            map[personTest]filter // the first filter of each test
}

// Compile compiles a team's definitions. It is total: a flag that does not compile fails alone, see Problems.
func Compile(team *flagcache.Team, opts Options) *Program {
	return CompileShared(team, nil, opts)
}

// CompileShared is Compile for installations where the teams of a project share their flags: those of the siblings come after the team's own.
func CompileShared(team *flagcache.Team, siblings []*flagcache.Team, opts Options) *Program {
	c := newCompiler(team, opts)
	teams := append([]*flagcache.Team{team}, siblings...)
	if !slices.ContainsFunc(teams, func(t *flagcache.Team) bool { return len(t.Flags) > 0 }) {
		return c.p // most teams have none
	}
	c.prepare(team)
	for _, t := range teams {
		c.readRelated(t)
	}
	for _, t := range teams {
		for _, record := range t.Flags {
			c.compileFlag(record.JSON)
		}
	}
	c.compileCohorts()
	c.orderFlags()
	c.derive()
	c.pack()
	return c.p
}

func newCompiler(team *flagcache.Team, opts Options) *compiler {
	c := &compiler{
		p:            &Program{teamID: team.ID, version: team.Version, zone: time.UTC, device: -1},
		rules:        opts.Rules,
		regexTimeout: cmp.Or(max(opts.RegexTimeout, 0), DefaultRegexTimeout),
	}
	members(string(team.Team), func(name, raw string) { // a row of some sixty columns, of which two matter
		switch name {
		case "api_token":
			c.p.token = textOf(raw)
		case "timezone":
			c.timezone = textOf(raw)
		}
	})
	return c
}

// textOf is the text of a JSON string, "" for other values.
func textOf(raw string) string {
	if n, err := parseJSON(raw); err == nil && n.Kind == String {
		return strings.Clone(n.Text)
	}
	return ""
}

// prepare makes what a team with flags needs.
func (c *compiler) prepare(team *flagcache.Team) {
	c.p.byKey, c.p.person = map[string]*Flag{}, map[string]int32{}
	c.groupNames = map[int64]string{}
	c.contexts = map[int64][]string{}
	c.experiments = map[int64]bool{}
	c.cohortRecords = map[int64][]byte{}
	c.cohorts = map[int64]*cohort{}
	c.byID = map[int64]*Flag{}
	c.references = map[*Flag][]int64{}
	c.tests = map[personTest]filter{}
	version, ok := parseRecord(team.Config).member("property_matching_version").integer()
	c.explicitBooleans = ok && version == 2
}

// parseRecord reads a record. One that cannot be read is an empty one: the cache holds none such.
func parseRecord(record []byte) *node {
	n, err := parseJSON(string(record))
	if err != nil || n.Kind != Object {
		return &node{}
	}
	return &n
}

// readRelated reads the records that flags refer to. What several teams have, counts from the first.
func (c *compiler) readRelated(team *flagcache.Team) {
	for _, record := range team.GroupTypes {
		row := parseRecord(record.JSON)
		index, ok := row.member("group_type_index").integer()
		if _, known := c.groupNames[index]; ok && !known && row.present("group_type").is(String) {
			c.groupNames[index] = strings.Clone(row.member("group_type").Text)
		}
	}
	for _, record := range team.Cohorts {
		row := parseRecord(record.JSON)
		id, ok := row.member("id").integer()
		if _, known := c.cohortRecords[id]; ok && !known && !row.member("deleted").truth() {
			c.cohortRecords[id] = record.JSON
		}
	}
	for _, record := range team.Experiments {
		row := parseRecord(record.JSON)
		if id, ok := row.present("feature_flag_id").integer(); ok && !row.member("deleted").truth() {
			c.experiments[id] = true
		}
	}
	c.readContexts(team)
}

func (c *compiler) readContexts(team *flagcache.Team) {
	names := make(map[string]string, len(team.Contexts))
	for _, record := range team.Contexts {
		if name := parseRecord(record.JSON).present("name"); name.is(String) {
			names[record.Key] = strings.Clone(name.Text)
		}
	}
	for _, record := range team.FlagContexts {
		row := parseRecord(record.JSON)
		id, ok := row.member("feature_flag_id").integer()
		context := row.present("evaluation_context_id")
		if context == nil {
			context = row.present("tag_id")
		}
		if !ok || context == nil {
			continue
		}
		if name, ok := names[context.Text]; ok {
			c.contexts[id] = append(c.contexts[id], name)
		}
	}
}

// pack puts the conditions and filters of all flags into the order in which they are evaluated, so that memory is read from front to back.
func (c *compiler) pack() {
	conditions, filters := 0, 0
	for _, f := range c.p.flags {
		conditions += len(f.conditions)
		for i := range f.conditions {
			filters += len(f.conditions[i].filters)
		}
	}
	allConditions, allFilters := make([]condition, 0, conditions), make([]filter, 0, filters)
	for _, f := range c.p.flags {
		start := len(allConditions)
		allConditions = append(allConditions, f.conditions...)
		f.conditions = slices.Clip(allConditions[start:])
		for i := range f.conditions {
			start := len(allFilters)
			allFilters = append(allFilters, f.conditions[i].filters...)
			f.conditions[i].filters = slices.Clip(allFilters[start:])
		}
	}
}

// location is the team's time zone. It is loaded only for teams that compare dates.
func (c *compiler) location() *time.Location {
	if c.timezone != "" && c.p.zone == time.UTC {
		if zone, err := time.LoadLocation(c.timezone); err == nil {
			c.p.zone = zone
		}
	}
	return c.p.zone
}

func (c *compiler) newSlot() int32 {
	c.p.slots++
	return int32(c.p.slots - 1)
}

// personSlot is the slot of a person property.
func (c *compiler) personSlot(key string) int32 {
	at, ok := c.p.person[key]
	if !ok {
		at = c.newSlot()
		c.p.person[strings.Clone(key)] = at
	}
	return at
}

// groupAt is the place of a group type in the program.
func (c *compiler) groupAt(index int64) int32 {
	at := slices.IndexFunc(c.p.groups, func(g group) bool { return g.index == index })
	if at < 0 {
		at = len(c.p.groups)
		name, mapped := c.groupNames[index]
		c.p.groups = append(c.p.groups, group{index: index, name: name, mapped: mapped, keys: map[string]int32{}})
	}
	return int32(at)
}

func (c *compiler) groupSlot(at int32, key string) int32 {
	keys := c.p.groups[at].keys
	slot, ok := keys[key]
	if !ok {
		slot = c.newSlot()
		keys[strings.Clone(key)] = slot
	}
	return slot
}

// derive finds the properties that follow from others: $os and $os_name stand in for each other, and what PostHog copies to $initial_ properties.
func (c *compiler) derive() {
	var initial []derivation
	for _, key := range c.personKeys() {
		rest, ok := strings.CutPrefix(key, "$initial_")
		if !ok {
			continue
		}
		for _, source := range []string{"$" + rest, rest} {
			if initialOf(source) == key {
				initial = append(initial, derivation{from: c.personSlot(source), to: c.p.person[key]})
			}
		}
	}
	_, os := c.p.person["$os"]
	_, name := c.p.person["$os_name"]
	if os || name {
		os, name := c.personSlot("$os"), c.personSlot("$os_name")
		c.p.derivations = append(c.p.derivations, derivation{from: name, to: os}, derivation{from: os, to: name})
	}
	c.p.derivations = append(c.p.derivations, initial...)
}

func (c *compiler) personKeys() []string {
	keys := make([]string, 0, len(c.p.person))
	for key := range c.p.person {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
