package oracle

import (
	"strings"
	"testing"
)

func state() State {
	return State{
		Teams: map[string]map[string]Record{"1": {
			"team":   {"id": "1", "api_token": `"phc_a"`},
			"flag:7": {"id": "7", "filters": `{"groups": []}`, "active": "true"},
		}},
		Tokens: map[string]string{"phc_a": "1"},
	}
}

// TestCompareSees breaks each thing that the cache can get wrong.
func TestCompareSees(t *testing.T) {
	must := map[string][]string{"flag": {"id", "filters", "active"}, "team": {"id", "api_token"}}
	if lines := Compare(state(), state(), must); len(lines) > 0 {
		t.Fatalf("equal states differ: %q", lines)
	}
	for name, damage := range map[string]func(*State){
		"lost update":       func(s *State) { s.Teams["1"]["flag:7"]["active"] = "false" },
		"re-encoded json":   func(s *State) { s.Teams["1"]["flag:7"]["filters"] = `{"groups":[]}` },
		"missed delete":     func(s *State) { s.Teams["1"]["flag:8"] = Record{"id": "8"} },
		"missed insert":     func(s *State) { delete(s.Teams["1"], "flag:7") },
		"missing column":    func(s *State) { delete(s.Teams["1"]["flag:7"], "active") },
		"unknown column":    func(s *State) { s.Teams["1"]["flag:7"]["secret"] = `"x"` },
		"missed team":       func(s *State) { delete(s.Teams, "1") },
		"orphan team":       func(s *State) { s.Teams["2"] = map[string]Record{"team": {"id": "2"}} },
		"old token":         func(s *State) { s.Tokens["phc_old"] = "1" },
		"token of another":  func(s *State) { s.Tokens["phc_a"] = "2" },
		"missing token":     func(s *State) { delete(s.Tokens, "phc_a") },
		"null for a string": func(s *State) { s.Teams["1"]["team"]["api_token"] = "null" },
	} {
		got := state()
		damage(&got)
		if lines := Compare(state(), got, must); len(lines) == 0 {
			t.Errorf("%s: not seen", name)
		}
	}
}

func TestAsJSON(t *testing.T) {
	for _, c := range [][3]string{
		{"bool", "true", "true"},
		{"int8", "9007199254740993", "9007199254740993"},
		{"numeric", "1.00", "1.00"},
		{"numeric", "NaN", `"NaN"`},
		{"numeric", "-Infinity", `"-Infinity"`},
		{"jsonb", `{"a": 1.10}`, `{"a": 1.10}`},
		{"text", "a<b>&\"\n", `"a<b>&\"\n"`},
		{"_text", `{a,"b c"}`, `"{a,\"b c\"}"`},
	} {
		if got := asJSON(c[0], c[1]); got != c[2] {
			t.Errorf("asJSON(%s, %s) = %s, want %s", c[0], c[1], got, c[2])
		}
	}
	if got := normal([]byte(`"\u003cb\u003e"`)); got != `"<b>"` || strings.Contains(got, "u003c") {
		t.Errorf("normal = %s", got)
	}
}
