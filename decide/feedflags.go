package decide

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

// redactedPayload stands for a payload that only PostHog can decrypt.
const redactedPayload = `"\"********* (encrypted)\""`

// maxChain bounds the depth that dependencies are followed to.
const maxChain = 1000

// A document is a JSON object whose members are kept as they are.
type document map[string]json.RawMessage

// definition is a flag on its way to a feed.
type definition struct {
	id      int64
	key     string
	active  bool
	columns columns
	filters document
	groups  []document   // of the filters; filters["groups"] until changed is set
	props   [][]document // of each group; groups[i]["properties"] likewise
	refused bool         // what it says cannot be read, or it depends on such a flag
	depends []int64
}

// definitions are a team's flags, the order being that of their ids.
type definitions struct {
	list []*definition
	byID map[int64]*definition
}

// readDefinitions reads the flags. One that cannot be read is refused with everything that depends on it: SDKs then ask the server.
func readDefinitions(team *flagcache.Team, rules eval.Rules) *definitions {
	flags := &definitions{byID: map[int64]*definition{}}
	for _, record := range team.Flags {
		c := readColumns(record.JSON)
		f := &definition{id: c.number("id"), key: c.text("key"), active: c.truth("active"), columns: c}
		f.refused = !f.readFilters(rules)
		flags.list = append(flags.list, f)
		flags.byID[f.id] = f
	}
	for _, f := range flags.list {
		for _, p := range slices.Concat(f.props...) {
			if p.text("type") == "flag" && f.active {
				if id, err := strconv.ParseInt(p.text("key"), 10, 64); err == nil {
					f.depends = append(f.depends, id)
				}
			}
		}
	}
	for changed := true; changed; {
		changed = false
		for _, f := range flags.list {
			if !f.refused && slices.ContainsFunc(f.depends, flags.isRefused) {
				f.refused, changed = true, true
			}
		}
	}
	return flags
}

func (d *definitions) isRefused(id int64) bool {
	f, ok := d.byID[id]
	return ok && f.refused
}

// readFilters reads the filters as one of the documents of version 1, the legacy form included.
func (f *definition) readFilters(rules eval.Rules) bool {
	if json.Unmarshal(f.columns["filters"], &f.filters) != nil || f.filters == nil {
		return false
	}
	if v, ok := f.filters["version"]; ok && string(v) != "1" && string(v) != "null" {
		return false
	}
	f.normalize(rules)
	if json.Unmarshal(f.filters["groups"], &f.groups) != nil {
		return false
	}
	for _, g := range f.groups {
		var properties []document
		if raw, ok := g["properties"]; ok && json.Unmarshal(raw, &properties) != nil {
			return false
		}
		f.props = append(f.props, properties)
	}
	if f.columns.truth("has_encrypted_payloads") {
		f.redact()
	}
	return true
}

// normalize gives filters without groups the one that they stand for.
func (f *definition) normalize(rules eval.Rules) {
	if groups, ok := f.filters["groups"]; ok {
		if string(groups) == "null" {
			f.filters["groups"] = json.RawMessage("[]")
		}
		return
	}
	properties, hasProperties := f.filters["properties"]
	rollout := f.columns.raw("rollout_percentage")
	if !hasProperties || string(properties) == "null" {
		properties = json.RawMessage("[]")
	}
	if string(properties) == "[]" && string(rollout) == "null" && rules != eval.Rules2023 {
		f.filters["groups"] = json.RawMessage("[]")
		return
	}
	delete(f.filters, "properties")
	f.filters["groups"] = slices.Concat(json.RawMessage(`[{"properties":`), properties, json.RawMessage(`,"rollout_percentage":`), rollout, json.RawMessage(`}]`))
}

// redact hides payloads that are encrypted.
func (f *definition) redact() {
	var payloads document
	if json.Unmarshal(f.filters["payloads"], &payloads) != nil || payloads == nil {
		return
	}
	for value := range payloads {
		payloads[value] = json.RawMessage(redactedPayload)
	}
	f.filters["payloads"] = payloads.marshal()
}

// rewriteDependencies names the flags that others depend on by their keys, as SDKs know them, each with the chain of flags to evaluate first.
func (d *definitions) rewriteDependencies() {
	chains := chains{flags: d, state: map[int64]visit{}, done: map[int64][]string{}}
	for _, f := range d.list {
		changed := false
		for _, p := range slices.Concat(f.props...) {
			if p.text("type") != "flag" {
				continue
			}
			id, err := strconv.ParseInt(p.text("key"), 10, 64)
			chain := []string{}
			if target, ok := d.byID[id]; ok && err == nil {
				p["key"] = marshal(target.key)
				if target != f {
					chain = append(chain, chains.of(id, 0)...)
				}
			}
			p["dependency_chain"], changed = marshal(chain), true
		}
		if changed {
			f.rebuild()
		}
	}
}

// rebuild writes the groups back to the filters.
func (f *definition) rebuild() {
	for i, g := range f.groups {
		if f.props[i] != nil {
			g["properties"] = marshal(f.props[i])
		}
	}
	f.filters["groups"] = marshal(f.groups)
}

// chains finds for each flag the keys to evaluate, those it depends on first and its own last; none for members of a cycle and what depends on them.
type chains struct {
	flags *definitions
	state map[int64]visit
	done  map[int64][]string
}

type visit uint8

const (
	unseen visit = iota
	open
	closed
)

func (c *chains) of(id int64, depth int) []string {
	f, ok := c.flags.byID[id]
	if !ok || c.state[id] == open || depth > maxChain {
		return nil
	}
	if c.state[id] == closed {
		return c.done[id]
	}
	c.state[id] = open
	var chain []string
	complete := true
	for _, dependency := range f.depends {
		before := c.of(dependency, depth+1)
		complete = complete && before != nil
		for _, key := range before {
			if !slices.Contains(chain, key) {
				chain = append(chain, key)
			}
		}
	}
	c.state[id] = closed
	if complete {
		c.done[id] = append(chain, f.key)
	}
	return c.done[id]
}

// text is the text of a string member or the literal of a number.
func (d document) text(name string) string {
	return columns(d).text(name)
}

func (d document) marshal() json.RawMessage { return marshal(d) }

// marshal encodes what was decoded from JSON, or strings: it cannot fail.
func marshal(v any) json.RawMessage {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return json.RawMessage("null")
	}
	return bytes.TrimRight(text.Bytes(), "\n")
}
