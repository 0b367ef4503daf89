package eval

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
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
		strings.TrimSuffix(flagOf(10, "one for all", `{"groups":[{}],"multivariate":{"variants":[{"key":"only","rollout_percentage":100}]}}`), "}")+`,"ensure_experience_continuity":true}`,
		strings.TrimSuffix(flagOf(11, "by hash", `{"groups":[{}],`+variants+`}`), "}")+`,"ensure_experience_continuity":true}`,
	)
	team.GroupTypes = groupTypes("organization")
	team.Cohorts = append(team.Cohorts, cohortOf(1, `"filters":{"properties":{"type":"OR","values":[{"key":"country","value":"DE"}]}}`),
		cohortOf(2, `"filters":{"properties":{"type":"OR","values":[]}}`), cohortOf(3, `"is_static":true`))
	return Compile(team, Options{})
}

// written is an explained flag as text, for the golden file.
func written(f *FlagExplanation) string {
	outcome := strconv.FormatBool(f.Enabled)
	switch {
	case f.Omitted != "" && f.Reason == "":
		outcome = "omitted: " + f.Omitted
	case f.Failed:
		outcome = "failed"
	case f.Variant != nil:
		outcome = strconv.Quote(*f.Variant)
	}
	text := fmt.Sprintf("\n%s (%d): %s\n", f.Key, f.ID, outcome)
	if f.Reason != "" {
		text += fmt.Sprintf("  because: %s (%s)\n", f.Description, f.Reason)
	}
	for _, step := range f.Steps {
		where := ""
		if step.Condition != nil {
			where = fmt.Sprintf("condition %d: ", *step.Condition+1)
		}
		text += "  - " + where + step.What
		if step.Hash != nil {
			text += " at " + formatFloat(*step.Hash)
		}
		if step.Result != "" {
			text += ": " + step.Result
		}
		text += "\n"
	}
	if f.Payload != "" {
		text += "  payload: " + f.Payload + "\n"
	}
	return text
}

func TestExplainText(t *testing.T) {
	in := inputOf(t, `{"distinct_id":"user-10","person_properties":{"plan":"Pro","country":"DE","$feature_enrollment/early":true},
		"groups":{"organization":"o-1"},"group_properties":{"organization":{"tier":1}}}`)
	e := explainTeam().Explain(in)
	var text strings.Builder
	fmt.Fprintf(&text, "team %d, version %s, errorsWhileComputingFlags %t\n", e.Team, e.Version, e.Errors)
	for i := range e.Flags {
		text.WriteString(written(&e.Flags[i]))
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
