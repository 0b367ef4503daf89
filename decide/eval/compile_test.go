package eval

import (
	"testing"

	"github.com/everflag/everflag/internal/flagcache"
)

func TestProgramOfATeam(t *testing.T) {
	for record, token := range map[string]string{
		`{"id":7,"name":"a \"b\" {","x":[1,{"api_token":"no"}],"api_token":"phc_é\n","timezone":null,"n":-1.5e3,"z":{}}`: "phc_é\n",
		`{"api_token":null}`: "", `{"api_token":7}`: "", `{`: "", `{"a"`: "", `{"a":`: "", `{"a":"`: "", `{"a":[`: "", `[]`: "", ``: "", `{}`: "",
	} {
		for _, flags := range [][]flagcache.Record{nil, {{Key: "1", JSON: []byte(flagOf(1, "f", `{}`))}}} {
			p := Compile(&flagcache.Team{ID: 7, Version: "v7", Team: []byte(record), Flags: flags}, Options{})
			if p.Token() != token || p.TeamID() != 7 || p.Version() != "v7" || len(p.Flags()) != len(flags) || len(p.Problems()) != 0 {
				t.Errorf("%s: token %q, team %d, version %q, flags %v", record, p.Token(), p.TeamID(), p.Version(), p.Flags())
			}
			for _, f := range p.Flags() {
				if !f.Active() {
					t.Error("an active flag is not")
				}
			}
			in := &Input{DistinctID: "a", Person: []Property{{"k", Value{String, "x"}}}, Keys: []string{"f"}, Now: testNow}
			if d := p.Evaluate(in, &Scratch{}); len(d.Results) != len(flags) || d.Errors {
				t.Errorf("%s: %+v", record, d)
			}
		}
	}
}

func TestExperimentsAndVersions(t *testing.T) {
	team := teamOf(flagOf(1, "with", `{}`), flagOf(2, "deleted", `{}`), `{"id":3,"key":"2023","active":true,"filters":{}}`)
	team.Experiments = []flagcache.Record{
		{JSON: []byte(`{"id":1,"feature_flag_id":1,"deleted":false}`)},
		{JSON: []byte(`{"id":2,"feature_flag_id":2,"deleted":true}`)},
		{JSON: []byte(`{"id":3,"feature_flag_id":null}`)},
		{JSON: []byte(`nonsense`)},
	}
	for _, f := range Compile(team, Options{}).Flags() {
		if f.HasExperiment != (f.Key == "with") || (f.Version == 0) != (f.Key == "2023") {
			t.Errorf("%+v", f)
		}
	}
}

func TestTagsAreContexts(t *testing.T) { // the tables before March 2026
	team := teamOf(flagOf(1, "f", `{}`))
	team.Contexts = []flagcache.Record{{Key: "t", JSON: []byte(`{"id":"t","name":"web","team_id":1}`)}, {Key: "u", JSON: []byte(`{"id":"u","name":null}`)}}
	team.FlagContexts = []flagcache.Record{
		{JSON: []byte(`{"id":"a","feature_flag_id":1,"tag_id":"t"}`)},
		{JSON: []byte(`{"id":"b","feature_flag_id":1,"tag_id":"u"}`)},
		{JSON: []byte(`{"id":"c","feature_flag_id":1}`)},
	}
	p := Compile(team, Options{})
	for context, want := range map[string]int{"web": 1, " Web ": 1, "app": 0} {
		if got := len(p.Evaluate(&Input{Contexts: []string{context}, Now: testNow}, &Scratch{}).Results); got != want {
			t.Errorf("%q: %d flags, want %d", context, got, want)
		}
	}
}
