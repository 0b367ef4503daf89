package eval

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// explainTeam has a flag for every kind of step.
func explainTeam() *Program {
	team := teamOf(
		flagOf(1, "checkout", `{"groups":[{"properties":[{"key":"plan","value":["pro","team"]},`+inCohort(1)+`],"rollout_percentage":50},
			{"rollout_percentage":25.5}],`+variants+`,"payloads":{"x":"{\"a\":1}"},"holdout":{"id":7,"exclusion_percentage":10}}`),
		flagOf(2, "banner", `{"groups":[{"properties":[{"key":"1","type":"flag","operator":"flag_evaluates_to","value":"x"}]}]}`),
		flagOf(3, "early", `{"feature_enrollment":true,"groups":[]}`),
		flagOf(4, "company", `{"aggregation_group_type_index":0,"groups":[{"properties":[{"key":"tier","type":"group","group_type_index":0,"operator":"is_set"}],
			"variant":"y"}],`+variants+`}`),
		flagOf(5, "new rules", `{"version":2}`),
		strings.Replace(flagOf(6, "off", `{}`), `"active":true`, `"active":false`, 1),
		strings.TrimSuffix(flagOf(7, "steady", `{"groups":[{"rollout_percentage":50}]}`), "}")+`,"ensure_experience_continuity":true}`,
		strings.TrimSuffix(flagOf(8, "device", `{"groups":[{}]}`), "}")+`,"bucketing_identifier":"device_id"}`,
		flagOf(9, "odd", `{"groups":[{"properties":[{"key":"x","type":"group","value":1}]},{"properties":[`+inCohort(2)+`]},{"properties":[`+inCohort(3)+`]},
			{"properties":[{"key":"id","type":"cohort","value":"x"}]}]}`),
	)
	team.GroupTypes = groupTypes("organization")
	team.Cohorts = append(team.Cohorts, cohortOf(1, `"filters":{"properties":{"type":"OR","values":[{"key":"country","value":"DE"}]}}`),
		cohortOf(2, `"filters":{"properties":{"type":"OR","values":[]}}`), cohortOf(3, `"is_static":true`))
	return Compile(team, Options{})
}

func TestExplainText(t *testing.T) {
	in := inputOf(t, `{"distinct_id":"user-10","person_properties":{"plan":"Pro","country":"DE","$feature_enrollment/early":true},
		"groups":{"organization":"o-1"},"group_properties":{"organization":{"tier":1}}}`)
	e := explainTeam().Explain(in)
	var text strings.Builder
	if err := e.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/explain.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("got (run with -update to accept):\n%s\nwant:\n%s", text.String(), want)
	}
}

func TestExplainJSON(t *testing.T) {
	in := inputOf(t, `{"distinct_id":"user-10","person_properties":{}}`)
	in.Keys = []string{"banner"}
	encoded, err := json.Marshal(explainTeam().Explain(in))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Team   int64 `json:"team_id"`
		Errors bool  `json:"errors_while_computing_flags"`
		Flags  []struct {
			Key, Omitted, Reason string
			Failed               bool
			Steps                []struct {
				What, Result string
				Condition    *int `json:"condition_index"`
				Hash         *float64
			}
		}
		Problems []Problem
	}
	if err := json.Unmarshal(encoded, &got); err != nil {
		t.Fatal(err)
	}
	if got.Team != 1 || !got.Errors || len(got.Flags) != 2 || len(got.Problems) != 1 {
		t.Fatalf("%s", encoded)
	}
	needed, asked := got.Flags[0], got.Flags[1]
	if needed.Key != "checkout" || needed.Omitted == "" || asked.Key != "banner" || asked.Omitted != "" || asked.Reason != "dependency_failed" {
		t.Errorf("%s", encoded)
	}
	hashes := 0
	for _, step := range needed.Steps {
		if step.Hash != nil {
			hashes++
		}
	}
	if hashes == 0 {
		t.Errorf("no step tells a hash: %s", encoded)
	}
}
