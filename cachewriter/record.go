package cachewriter

import (
	"encoding/json"
	"fmt"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
)

// tokenColumn is the member of a team's record that clients identify themselves with.
const tokenColumn = "api_token"

// appendRecord appends the record of a row. Unchanged columns are copied from base, byte by byte; ok is false if base lacks one.
func appendRecord(dst []byte, columns []change.Column, base []byte) (record []byte, ok bool) {
	dst = append(dst, '{')
	for i := range columns {
		column := &columns[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(flagcache.AppendString(dst, []byte(column.Name)), ':')
		switch column.State {
		case change.Null:
			dst = append(dst, "null"...)
		case change.Unchanged:
			raw := member(base, column.Name)
			if raw == nil {
				return dst, false
			}
			dst = append(dst, raw...)
		default:
			dst = appendValue(dst, column.Kind, column.Text)
		}
	}
	return append(dst, '}'), true
}

func appendValue(dst []byte, kind change.Kind, text []byte) []byte {
	switch kind {
	case change.Bool:
		if len(text) > 0 && text[0] == 't' {
			return append(dst, "true"...)
		}
		return append(dst, "false"...)
	case change.Number:
		if len(text) > 0 && (text[len(text)-1] < '0' || text[len(text)-1] > '9') { // NaN, Infinity, -Infinity
			return flagcache.AppendString(dst, text)
		}
		return append(dst, text...)
	case change.JSON:
		return append(dst, text...)
	case change.Secret:
		return appendDigest(dst, text)
	default:
		return flagcache.AppendString(dst, text)
	}
}

// tokenOf returns the token in a team's record; empty if it has none.
func tokenOf(record []byte) (string, error) {
	raw := member(record, tokenColumn)
	if raw == nil || string(raw) == "null" {
		return "", nil
	}
	var token string
	if err := json.Unmarshal(raw, &token); err != nil {
		return "", fmt.Errorf("reading member %q of a team's record: %w", tokenColumn, err)
	}
	return token, nil
}

// childOf declares the entities that find their team through a parent: the parent's entity, and the member of their records that names its primary key.
// The index needs it when it is loaded from the cache, where no source is at hand to say so.
var childOf = map[string]struct{ entity, column string }{
	flagcache.EntityFlagContext: {flagcache.EntityFlag, "feature_flag_id"},
	flagcache.EntityExperiment:  {flagcache.EntityFlag, "feature_flag_id"},
}

// parentIn returns the parent that a child's record names; the zero row if it names none.
func parentIn(child string, record []byte) row {
	relation, isChild := childOf[child]
	raw := member(record, relation.column)
	if !isChild || len(raw) == 0 || string(raw) == "null" {
		return row{}
	}
	key := string(raw)
	if raw[0] == '"' && json.Unmarshal(raw, &key) != nil {
		return row{}
	}
	return row{relation.entity, key}
}
