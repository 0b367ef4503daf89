package decide

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

// hypercache is testdata/hypercache.json: what PostHog itself keeps for its flag service.
type hypercache struct {
	Provenance string `json:"provenance"`
	Payload    struct {
		Flags    []json.RawMessage `json:"flags"`
		Metadata struct {
			Stages     [][]int64          `json:"dependency_stages"`
			Missing    []int64            `json:"flags_with_missing_deps"`
			Transitive map[string][]int64 `json:"transitive_deps"`
		} `json:"evaluation_metadata"`
		Cohorts []json.RawMessage `json:"cohorts"`
	} `json:"payload"`
}

// hypercacheFlag is what the test looks at by itself.
type hypercacheFlag struct {
	ID       int64    `json:"id"`
	Key      string   `json:"key"`
	Contexts []string `json:"evaluation_contexts"`
}

// The rows of upstream's own cache, kept as ours are: every member of every flag is in the definitions as upstream has it, every flag is readable, and the
// same flags lack a dependency and come after the same others.
func TestHypercache(t *testing.T) {
	var data hypercache
	readTestdata(t, "hypercache.json", &data)
	team := newTeam(t, "phc_test", "")
	keys := map[int64]string{}
	for _, row := range data.Payload.Flags {
		var f hypercacheFlag
		if err := json.Unmarshal(row, &f); err != nil {
			t.Fatal(err)
		}
		keys[f.ID] = f.Key
		team.Flags = append(team.Flags, flagcache.Record{Key: fmt.Sprint(f.ID), JSON: row})
		for _, name := range f.Contexts {
			team.Contexts = append(team.Contexts, flagcache.Record{Key: name, JSON: fmt.Appendf(nil, `{"id":%q,"name":%q}`, name, name)})
			team.FlagContexts = append(team.FlagContexts, flagcache.Record{Key: name, JSON: fmt.Appendf(nil, `{"feature_flag_id":%d,"evaluation_context_id":%q}`, f.ID, name)})
		}
	}
	for _, row := range data.Payload.Cohorts {
		team.Cohorts = append(team.Cohorts, flagcache.Record{Key: "100", JSON: row})
	}
	if len(keys) != 5 || len(team.Cohorts) != 1 {
		t.Fatalf("%d flags and %d cohorts, want 5 and 1", len(keys), len(team.Cohorts))
	}

	feed := feedFlags(feedOf(t, team, true))
	for i, row := range data.Payload.Flags {
		var want map[string]any
		if err := json.Unmarshal(row, &want); err != nil {
			t.Fatal(err)
		}
		want["has_experiment"] = false // a later version of the payload has it
		inFormOfDefinitions(want, keys, data.Payload.Metadata.Transitive)
		if diff := cmp.Diff(want, feed[want["key"].(string)]); diff != "" {
			t.Errorf("flag %d (-want +got):\n%s", i, diff)
		}
	}

	source := newFakeSource(eval.RulesCurrent)
	source.put("phc_test", team)
	h, _ := newHandler(t, Config{}, source)
	answer := jsonOf(t, call(h, "POST", "/flags/?v=2", `{"token":"phc_test","distinct_id":"u","device_id":"d","$anon_distinct_id":"a",
		"person_properties":{"email":"test@example.com","$feature_enrollment/full-flag":"true"}}`))
	flags, _ := answer["flags"].(map[string]any)
	if answer["errorsWhileComputingFlags"] != false || len(flags) != len(keys) {
		t.Errorf("got %v", answer)
	}
	for id, key := range keys {
		reason := flags[key].(map[string]any)["reason"].(map[string]any)["code"]
		if missing := slices.Contains(data.Payload.Metadata.Missing, id); (reason == "missing_dependency") != missing {
			t.Errorf("%s: reason %v, want a missing dependency: %t", key, reason, missing)
		}
	}
}

// inFormOfDefinitions names the flags that a flag depends on by their keys, with what they depend on themselves. None of the payload has two.
func inFormOfDefinitions(flag map[string]any, keys map[int64]string, transitive map[string][]int64) {
	chain := []any{}
	for _, id := range transitive[fmt.Sprint(flag["id"])] {
		chain = append(chain, keys[id])
	}
	for _, g := range flag["filters"].(map[string]any)["groups"].([]any) {
		for _, p := range g.(map[string]any)["properties"].([]any) {
			if filter := p.(map[string]any); filter["type"] == "flag" {
				filter["dependency_chain"] = chain
				if len(chain) > 0 {
					filter["key"] = chain[0]
				}
			}
		}
	}
}
