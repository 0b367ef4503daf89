package decide

import (
	"errors"
	"strings"

	"github.com/everflag/everflag/decide/eval"
)

// request is one decoded request. It is pooled: its slices keep their memory, its strings point into the body's one copy and are dropped on reset.
type request struct {
	token         string
	distinctID    eval.Value
	hasDistinctID bool
	disableFlags  bool
	geoipDisable  bool
	runtime       eval.Runtime // asked for by name, RuntimeUnknown if not

	input   eval.Input
	scratch eval.Scratch

	keys            []string // input.Keys, which is nil if there are none
	groups          []groupKey
	groupProperties []groupProperties
	properties      []eval.Property // of all groups, one after the other
}

type groupKey struct {
	name  string
	value eval.Value
}

type groupProperties struct {
	name       string
	start, end int // in request.properties
}

// Fields of the wrong JSON type. As upstream, they reject the request; null counts as absent.
var (
	errNotObject          = errors.New("the request is not a JSON object")
	errDistinctIDType     = errors.New("distinct_id is neither a string nor a number")
	errPersonType         = errors.New("person_properties is not an object")
	errGroupsType         = errors.New("groups is not an object")
	errGroupPropertyTypes = errors.New("group_properties is not an object of objects")
	errFlagKeysType       = errors.New("flag_keys is not a list")
	errContextsType       = errors.New("evaluation_contexts is not a list")
	errAfterJSON          = errors.New("more follows after the JSON value")
	errTooManyGroups      = errors.New("too many groups")
)

// maxGroups is far above the five group types that a project can have.
const maxGroups = 100

func (r *request) reset() {
	clear(r.input.Person)
	clear(r.input.Groups)
	clear(r.keys)
	clear(r.input.Contexts)
	clear(r.groups)
	clear(r.groupProperties)
	clear(r.properties)
	r.input = eval.Input{
		Person: r.input.Person[:0], Groups: r.input.Groups[:0], Contexts: r.input.Contexts[:0],
	}
	r.keys, r.groups, r.groupProperties, r.properties = r.keys[:0], r.groups[:0], r.groupProperties[:0], r.properties[:0]
	r.token, r.distinctID, r.hasDistinctID = "", eval.Value{}, false
	r.disableFlags, r.geoipDisable, r.runtime = false, false, eval.RuntimeUnknown
}

// decode reads the request from the JSON text, which it refers to from then on. With lenient, fields of a wrong type count as absent and of a list the
// first element is read, as the Django server did.
func (r *request) decode(text string, lenient bool) error {
	s := scanner{text: text}
	list := lenient && s.take('[')
	if s.peek() != '{' {
		if err := s.skip(); err != nil {
			return err
		}
		return errNotObject
	}
	if err := s.object(func(key string) error { return r.field(&s, key, lenient) }); err != nil {
		return err
	}
	if !list && !s.end() {
		return errAfterJSON
	}
	if len(r.groups) > maxGroups || len(r.groupProperties) > maxGroups {
		return errTooManyGroups
	}
	r.resolve()
	return nil
}

// field reads one member of the request. Of a duplicate, also under another name, the last one counts.
func (r *request) field(s *scanner, key string, lenient bool) error {
	switch key {
	case "token", "$token", "api_key":
		return r.readToken(s)
	case "distinct_id", "$distinct_id":
		return r.readDistinctID(s, lenient)
	case "person_properties", "$properties":
		return r.readPerson(s, lenient)
	case "properties":
		return r.readLegacyProperties(s, lenient)
	case "groups", "$groups":
		r.groups = r.groups[:0]
		return s.optional('{', lenient, errGroupsType, func() error { return s.object(r.groupMember(s)) })
	case "group_properties", "$group_properties":
		r.groupProperties, r.properties = r.groupProperties[:0], r.properties[:0]
		return s.optional('{', lenient, errGroupPropertyTypes, func() error { return s.object(r.groupPropertiesMember(s, lenient)) })
	case "$anon_distinct_id", "anon_distinct_id":
		return s.text1(&r.input.AnonDistinctID)
	case "device_id", "$device_id":
		return s.text1(&r.input.DeviceID)
	case "geoip_disable":
		return s.truth(&r.geoipDisable)
	case "disable_flags":
		return s.truth(&r.disableFlags)
	case "flag_keys", "flag_keys_to_evaluate":
		return s.names(&r.keys, lenient, errFlagKeysType)
	case "evaluation_contexts", "evaluation_environments":
		return s.names(&r.input.Contexts, lenient, errContextsType)
	case "evaluation_runtime":
		return r.readRuntime(s)
	default:
		return s.skip()
	}
}

func (r *request) readToken(s *scanner) error {
	var token string
	err := s.text1(&token)
	if token = strings.TrimSpace(token); token != "" {
		r.token = token
	}
	return err
}

func (r *request) readDistinctID(s *scanner, lenient bool) error {
	v, err := s.value()
	if err != nil {
		return err
	}
	if v.Kind == eval.Array || v.Kind == eval.Object {
		if lenient {
			return nil
		}
		return errDistinctIDType
	}
	r.distinctID, r.hasDistinctID = v, v.Kind != eval.Null
	return nil
}

func (r *request) readPerson(s *scanner, lenient bool) error {
	clear(r.input.Person)
	r.input.Person = r.input.Person[:0]
	if c := s.peek(); c != '{' {
		return s.optional('{', lenient, errPersonType, nil)
	}
	// Written out, not passed as a function: this is the one member that every request has.
	if err := s.enter('{'); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.more('}', first)
		if !more {
			return err
		}
		key, err := s.key()
		if err != nil {
			return err
		}
		value, err := s.value()
		if err != nil {
			return err
		}
		r.input.Person = append(r.input.Person, eval.Property{Key: key, Value: value})
	}
}

// readLegacyProperties finds the token where the oldest SDKs put it.
func (r *request) readLegacyProperties(s *scanner, lenient bool) error {
	if !lenient || s.peek() != '{' {
		return s.skip()
	}
	return s.object(func(key string) error {
		if key != "token" {
			return s.skip()
		}
		var token string
		err := s.text1(&token)
		if r.token == "" {
			r.token = token
		}
		return err
	})
}

func (r *request) groupMember(s *scanner) func(string) error {
	return func(name string) error {
		value, err := s.value()
		r.groups = append(r.groups, groupKey{name, value})
		return err
	}
}

func (r *request) groupPropertiesMember(s *scanner, lenient bool) func(string) error {
	return func(name string) error {
		start := len(r.properties)
		err := s.optional('{', lenient, errGroupPropertyTypes, func() error {
			return s.object(func(key string) error {
				value, err := s.value()
				r.properties = append(r.properties, eval.Property{Key: key, Value: value})
				return err
			})
		})
		r.groupProperties = append(r.groupProperties, groupProperties{name, start, len(r.properties)})
		return err
	}
}

func (r *request) readRuntime(s *scanner) error {
	var name string
	err := s.text1(&name)
	switch name {
	case "all":
		r.runtime = eval.RuntimeAll
	case "client":
		r.runtime = eval.RuntimeClient
	case "server":
		r.runtime = eval.RuntimeServer
	}
	return err
}

// resolve turns what was read into the evaluator's terms, once everything is known.
func (r *request) resolve() {
	if r.hasDistinctID {
		r.input.DistinctID = eval.DistinctID(identifier(r.distinctID))
	}
	if len(r.keys) > 0 {
		r.input.Keys = r.keys
	}
	for i, name := range r.input.Contexts {
		r.input.Contexts[i] = strings.ToLower(strings.TrimSpace(name))
	}
	for _, g := range r.groups {
		group := r.group(g.name)
		group.Key = identifier(g.value)
		group.Usable = g.value.Kind == eval.Number || g.value.Kind == eval.String && g.value.Text != ""
	}
	for _, p := range r.groupProperties {
		r.group(p.name).Properties = r.properties[p.start:p.end:p.end]
	}
}

// group is the input's group of the type, added if it is new.
func (r *request) group(name string) *eval.Group {
	for i := range r.input.Groups {
		if r.input.Groups[i].Type == name {
			return &r.input.Groups[i]
		}
	}
	r.input.Groups = append(r.input.Groups, eval.Group{Type: name})
	return &r.input.Groups[len(r.input.Groups)-1]
}

// identifier is the text that an id is hashed as: a string as it is, a number as PostHog prints it.
func identifier(v eval.Value) string {
	switch v.Kind {
	case eval.String:
		return v.Text
	case eval.Number:
		return eval.NumberText(v.Text)
	case eval.True:
		return "true"
	case eval.False:
		return "false"
	default:
		return ""
	}
}

// optional reads a value that begins with open; null counts as absent, and if lenient everything else, too.
func (s *scanner) optional(open byte, lenient bool, wrong error, read func() error) error {
	switch c := s.peek(); {
	case c == open:
		return read()
	case c == 'n' || lenient:
		return s.skip()
	default:
		if err := s.skip(); err != nil {
			return err
		}
		return wrong
	}
}

// text1 reads a string; a number counts as its text, anything else as absent.
func (s *scanner) text1(dst *string) error {
	v, err := s.value()
	if v.Kind == eval.String || v.Kind == eval.Number {
		*dst = v.Text
	}
	return err
}

// truth reads a boolean; the spellings that the query string knows are understood, too.
func (s *scanner) truth(dst *bool) error {
	v, err := s.value()
	*dst = v.Kind == eval.True || (v.Kind == eval.String || v.Kind == eval.Number) && isTrue(v.Text)
	return err
}

// names reads a list of strings; other elements are passed over.
func (s *scanner) names(dst *[]string, lenient bool, wrong error) error {
	*dst = (*dst)[:0]
	return s.optional('[', lenient, wrong, func() error {
		return s.array(func() error {
			v, err := s.value()
			if v.Kind == eval.String {
				*dst = append(*dst, v.Text)
			}
			return err
		})
	})
}
