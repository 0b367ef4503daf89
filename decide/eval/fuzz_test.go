package eval

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/everflag/everflag/internal/flagcache"
)

// FuzzFilters compiles any document, and evaluates and explains what came of it.
func FuzzFilters(f *testing.F) {
	var file struct {
		Cases []struct {
			Flags []json.RawMessage `json:"flags"`
		} `json:"cases"`
	}
	loadVectors(f, "evaluation.json", &file)
	for _, c := range file.Cases {
		f.Add(string(c.Flags[0]), `{"properties":{"type":"AND","values":[`+isPro+`]}}`, "plan", "pro")
	}
	f.Fuzz(func(t *testing.T, row, cohort, key, value string) {
		team := teamOf(row, flagOf(1, "f", row), flagOf(2, "g", `{"groups":[{"properties":[`+inCohort(1)+`,`+row+`]}]}`))
		team.Cohorts = []flagcache.Record{cohortOf(1, `"filters":`+cohort), {JSON: []byte(cohort)}}
		team.GroupTypes = groupTypes("organization")
		for _, rules := range []Rules{RulesCurrent, Rules2023} {
			p := Compile(team, Options{Rules: rules})
			in := &Input{
				DistinctID: value, Person: []Property{{key, Value{String, value}}, {"k", Value{Number, value}}, {"l", Value{Array, value}}}, Now: testNow,
				Groups: []Group{{Type: "organization", Key: value, Usable: value != "", Properties: []Property{{key, Value{Object, value}}}}},
			}
			d := p.Evaluate(in, &Scratch{})
			checkEncodings(t, d)
			e := p.Explain(in)
			if e.Errors != d.Errors {
				t.Error("explained differently")
			}
		}
	})
}

// FuzzValues compares any value with any other by every operator.
func FuzzValues(f *testing.F) {
	f.Add(`"a"`, `"A"`)
	f.Add(`[1,"x"]`, `1.50`)
	f.Add(`"^(a+)+$"`, `"aaaa!"`)
	f.Add(`"2024-02-30T25:61"`, `"-7d"`)
	f.Add(`"1.*"`, `"v01.2.3-rc.1+b"`)
	f.Fuzz(func(t *testing.T, want, given string) {
		n, err := parseJSON(given)
		if err != nil || !json.Valid([]byte(want)) {
			return
		}
		v := valueOf(&n)
		for name := range operatorNames {
			p := Compile(teamOf(flagOf(1, "f", fmt.Sprintf(`{"groups":[{"properties":[{"key":"k","operator":%q,"value":%s}]}]}`, name, want))), Options{})
			d := p.Evaluate(&Input{Person: []Property{{"k", v}}, Now: testNow}, &Scratch{})
			if len(d.Results) != 1 || d.Results[0].Failed && d.Results[0].fault != faultDefinition && d.Results[0].fault != faultPattern {
				t.Errorf("%s %s with %s: a property that is given leaves nothing open: %+v", name, want, given, outcomesOf(d))
			}
		}
	})
}

// FuzzJSON holds the reader against the standard library.
func FuzzJSON(f *testing.F) {
	f.Add(`{"a":[1,-2.5e3,true,false,null,"x\u00e9\ud83d\ude00\ud800\n"],"a":{}}`)
	f.Add(strings.Repeat("[", 300) + strings.Repeat("]", 300))
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseJSON(text)
		if err == errDepth {
			return
		}
		if (err == nil) != json.Valid([]byte(text)) {
			t.Fatalf("%q: %v, the library says %t", text, err, json.Valid([]byte(text)))
		}
		if err == nil && n.Kind == String {
			var want string
			if json.Unmarshal([]byte(text), &want); want != strings.ToValidUTF8(n.Text, "\ufffd") && strings.ToValidUTF8(text, "") == text {
				t.Fatalf("%q: %q, want %q", text, n.Text, want)
			}
		}
		if err == nil && !json.Valid(appendCompact(nil, &n)) {
			t.Fatalf("%q is rendered as %s", text, appendCompact(nil, &n))
		}
	})
}
