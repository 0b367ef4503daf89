package cachewriter

import (
	"encoding/hex"
	"slices"
	"strconv"
)

// row names one row of the source, and one field of one team in the cache.
type row struct {
	entity, key string
}

// index knows where the cache holds each row and which token each team has: deletes and moves carry only primary keys. It costs about 18 bytes per row
// with a numeric key, so that a million flags stay far below 100 MB. It holds what the cache holds, never what a plan intends: see plan.commit.
type index struct {
	teams    map[string]*places // entity → primary key → team
	parents  map[row]string     // child → primary key of its parent
	children map[row][]row      // parent, whether it exists or not → its children
	tokens   map[int64]string   // team → api_token
}

func newIndex() *index {
	return &index{
		teams:    map[string]*places{},
		parents:  map[row]string{},
		children: map[row][]row{},
		tokens:   map[int64]string{},
	}
}

// team returns the team whose hash holds the row, 0 if none does.
func (x *index) team(r row) int64 {
	return x.teams[r.entity].get(r.key)
}

// put records that a team holds the row. parent is the zero row for rows with a team column.
func (x *index) put(r row, team int64, parent row) {
	keys := x.teams[r.entity]
	if keys == nil {
		keys = newPlaces()
		x.teams[r.entity] = keys
	}
	keys.put(r.key, team)
	x.link(r, parent)
}

// remove forgets the row.
func (x *index) remove(r row) {
	x.teams[r.entity].remove(r.key)
	x.link(r, row{})
}

// link makes the row a child of parent and of no other.
func (x *index) link(child, parent row) {
	old, had := x.parents[child]
	if had {
		former := row{childOf[child.entity].entity, old}
		if former == parent {
			return
		}
		siblings := slices.DeleteFunc(x.children[former], func(r row) bool { return r == child })
		if x.children[former] = siblings; len(siblings) == 0 {
			delete(x.children, former)
		}
		delete(x.parents, child)
	}
	if parent.key != "" {
		x.parents[child] = parent.key
		x.children[parent] = append(x.children[parent], child)
	}
}

// parent returns the parent of a row, the zero row if it has none.
func (x *index) parent(child row) row {
	key, has := x.parents[child]
	if !has {
		return row{}
	}
	return row{childOf[child.entity].entity, key}
}

// setToken records the token of a team; an empty one removes it.
func (x *index) setToken(team int64, token string) {
	if token == "" {
		delete(x.tokens, team)
		return
	}
	x.tokens[team] = token
}

// forgetRows makes room for the index of a copy whose teams begin to replace those of the cache: until that is complete no row is planned.
func (x *index) forgetRows() {
	x.teams, x.parents, x.children = nil, nil, nil
}

// rows counts the rows.
func (x *index) rows() int {
	n := 0
	for _, keys := range x.teams {
		n += keys.len()
	}
	return n
}

// places maps primary keys as text to teams, and holds them as numbers or UUIDs where they are some.
type places struct {
	numbers numbers
	uuids   map[[16]byte]int64
	texts   map[string]int64
}

func newPlaces() *places {
	return &places{uuids: map[[16]byte]int64{}, texts: map[string]int64{}}
}

// get returns 0 for an absent key, and for any key of a nil map.
func (m *places) get(key string) int64 {
	if m == nil {
		return 0
	}
	if n, ok := parseNumber(key); ok {
		return m.numbers.get(n)
	}
	if id, ok := parseUUID(key); ok {
		return m.uuids[id]
	}
	return m.texts[key]
}

func (m *places) put(key string, team int64) {
	if n, ok := parseNumber(key); ok {
		m.numbers.put(n, team)
	} else if id, ok := parseUUID(key); ok {
		m.uuids[id] = team
	} else {
		m.texts[key] = team
	}
}

func (m *places) remove(key string) {
	if m == nil {
		return
	}
	if n, ok := parseNumber(key); ok {
		m.numbers.remove(n)
	} else if id, ok := parseUUID(key); ok {
		delete(m.uuids, id)
	} else {
		delete(m.texts, key)
	}
}

func (m *places) len() int {
	return m.numbers.used + len(m.uuids) + len(m.texts)
}

// parseNumber takes only the form that Postgres prints: "007" is another key than "7".
func parseNumber(key string) (n int64, ok bool) {
	if key == "" || key[0] == '+' || key[0] == '0' && len(key) > 1 || key[0] == '-' && (len(key) == 1 || key[1] == '0') {
		return 0, false
	}
	n, err := strconv.ParseInt(key, 10, 64)
	return n, err == nil
}

// parseUUID takes only the form that Postgres prints, in lower case.
func parseUUID(key string) (id [16]byte, ok bool) {
	if len(key) != 36 || key[8] != '-' || key[13] != '-' || key[18] != '-' || key[23] != '-' {
		return id, false
	}
	var digits [32]byte
	n := 0
	for i := range len(key) {
		switch c := key[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'f':
			digits[n] = c
			n++
		default:
			return id, false
		}
	}
	_, err := hex.Decode(id[:], digits[:])
	return id, err == nil
}
