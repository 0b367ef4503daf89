package flagcache

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Record is the cached form of one row: a JSON object of its kept columns by name. Booleans are true or false, integers and numerics stand as
// Postgres prints them, json and jsonb verbatim, everything else as a JSON string; NULL is null; a column that the table lacks has no member.
type Record struct {
	Key  string // primary key, as text
	JSON []byte
}

// Members splits a record into its members' raw bytes.
func (r Record) Members() (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(r.JSON, &members); err != nil {
		return nil, fmt.Errorf("record %q: %w", r.Key, err)
	}
	return members, nil
}

// AppendString appends the JSON string of text. Invalid UTF-8, which Postgres never sends from a UTF-8 database, becomes U+FFFD.
func AppendString(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, text[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, text[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, text[start:]...), '"')
}

// Team is one team as the cache holds it. Records of an entity are in the order of their primary keys.
type Team struct {
	ID           int64
	Version      string
	Team         []byte // the record of posthog_team; nil if the row does not exist
	Config       []byte // the record of feature_flags_teamfeatureflagsconfig; nil if there is none
	Flags        []Record
	Cohorts      []Record
	GroupTypes   []Record
	Contexts     []Record
	FlagContexts []Record
	Experiments  []Record
}

// DecodeTeam sorts the fields of a team's hash, as alternating field and value, into a Team. The values are kept, not copied. Fields that this schema
// does not know are ignored. ok is false for a hash without version, which is what a missing key reads as.
func DecodeTeam(id int64, fieldsAndValues []string) (t *Team, ok bool) {
	t = &Team{ID: id}
	for i := 0; i+1 < len(fieldsAndValues); i += 2 {
		field, value := fieldsAndValues[i], []byte(fieldsAndValues[i+1])
		if field == VersionField {
			t.Version = string(value)
			continue
		}
		entity, key, known := ParseField(field)
		if !known {
			continue
		}
		switch entity {
		case EntityTeam:
			t.Team = value
		case EntityConfig:
			t.Config = value
		default:
			list := t.list(entity)
			*list = append(*list, Record{Key: key, JSON: value})
		}
	}
	for _, entity := range []string{EntityFlag, EntityCohort, EntityGroupType, EntityContext, EntityFlagContext, EntityExperiment} {
		slices.SortFunc(*t.list(entity), compareKeys)
	}
	return t, t.Version != ""
}

func (t *Team) list(entity string) *[]Record {
	switch entity {
	case EntityFlag:
		return &t.Flags
	case EntityCohort:
		return &t.Cohorts
	case EntityGroupType:
		return &t.GroupTypes
	case EntityContext:
		return &t.Contexts
	case EntityFlagContext:
		return &t.FlagContexts
	default:
		return &t.Experiments
	}
}

// compareKeys orders integers by value (shorter first) and keys of equal length, uuids too, as text.
func compareKeys(a, b Record) int {
	return cmp.Or(cmp.Compare(len(a.Key), len(b.Key)), cmp.Compare(a.Key, b.Key))
}
