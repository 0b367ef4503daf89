package eval

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/everflag/everflag/internal/flagcache"
)

// scenario is a flag with the key "f" (id 1), perhaps with others, and what becomes of it.
type scenario struct {
	name    string
	filters string
	columns string   // more columns of the row, `,"name":value`
	others  []string // rows of other flags
	rules   Rules
	request string
	want    string // value reason/condition
}

func (s scenario) run(t *testing.T) {
	t.Helper()
	row := strings.TrimSuffix(flagOf(1, "f", s.filters), "}") + s.columns + "}"
	team := teamOf(append([]string{row}, s.others...)...)
	team.GroupTypes = groupTypes("organization", "project")
	if got := outcomes(t, Compile(team, Options{Rules: s.rules}), s.request)["f"]; got != s.want {
		t.Errorf("%s: %s, want %s", s.name, got, s.want)
	}
}

const (
	anybody = `{"distinct_id":"user-105"}` // out of 28 % of "beta-search-rollout."
	pro     = `{"distinct_id":"a","person_properties":{"plan":"pro"}}`
	free    = `{"distinct_id":"a","person_properties":{"plan":"free"}}`

	isPro    = `{"key":"plan","type":"person","operator":"exact","value":"pro"}`
	isBeta   = `{"key":"beta","type":"person","operator":"exact","value":"yes"}`
	variants = `"multivariate":{"variants":[{"key":"x","rollout_percentage":50},{"key":"y","rollout_percentage":50}]}`
)

func TestConditions(t *testing.T) {
	for _, s := range []scenario{
		{name: "no conditions", filters: `{"groups":[]}`, request: anybody, want: "false no_group_type"},
		{name: "null conditions", filters: `{"groups":null}`, request: anybody, want: "false no_group_type"},
		{name: "everybody", filters: `{"groups":[{}]}`, request: anybody, want: "true condition_match/0"},
		{name: "null properties", filters: `{"groups":[{"properties":null,"rollout_percentage":null}]}`, request: anybody, want: "true condition_match/0"},
		{
			name: "two misses name the last", filters: `{"groups":[{"properties":[` + isPro + `]},{"properties":[` + isPro + `]}]}`, request: free,
			want: "false no_condition_match/1",
		},
		{
			name: "rollout miss is more telling", filters: `{"groups":[{"rollout_percentage":0},{"properties":[` + isPro + `]}]}`, request: free,
			want: "false out_of_rollout_bound/0",
		},
		{
			name: "early exit", filters: `{"early_exit":true,"groups":[{"rollout_percentage":0},{}]}`, request: free, want: "false out_of_rollout_bound/0",
		},
		{
			name: "a mismatch is no early exit", filters: `{"early_exit":true,"groups":[{"properties":[` + isPro + `],"rollout_percentage":0},{}]}`,
			request: free, want: "true condition_match/1",
		},
		{
			name: "stored order", filters: `{"groups":[{},{"variant":"x"}],` + variants + `}`, request: `{"distinct_id":"q"}`,
			want: `"y" condition_match/0`,
		},
		{
			name: "order of 2023", filters: `{"groups":[{},{"variant":"x"}],` + variants + `}`, request: `{"distinct_id":"q"}`, rules: Rules2023,
			want: `"x" condition_match/1`,
		},
		{
			name: "weights below 100", filters: `{"groups":[{}],"multivariate":{"variants":[{"key":"x","rollout_percentage":0}]}}`, request: anybody,
			want: "true condition_match/0",
		},
		{name: "empty id at 0 %", filters: `{"groups":[{"rollout_percentage":0}]}`, request: `{"distinct_id":""}`, want: "true condition_match/0"},
	} {
		s.run(t)
	}
}

func TestUnknownsDecideOnlyWhatTheyCannotChange(t *testing.T) { // G8, S21
	for _, s := range []scenario{
		{name: "needed", filters: `{"groups":[{"properties":[` + isPro + `]}]}`, request: anybody, want: "failed database_unavailable"},
		{
			name: "not needed: rollout is 0", filters: `{"groups":[{"properties":[` + isPro + `],"rollout_percentage":0}]}`, request: anybody,
			want: "false out_of_rollout_bound/0",
		},
		{
			name: "not needed: another property is false", filters: `{"groups":[{"properties":[` + isBeta + `,` + isPro + `]}]}`, request: free,
			want: "false no_condition_match/0",
		},
		{
			name: "a later condition gives the same value", filters: `{"groups":[{"properties":[` + isBeta + `]},{"properties":[` + isPro + `]}]}`,
			request: pro, want: "true condition_match/1",
		},
		{
			name: "a later condition gives another value", filters: `{"groups":[{"properties":[` + isBeta + `],"variant":"x"},{"variant":"y"}],` + variants + `}`,
			request: pro, want: "failed database_unavailable",
		},
		{
			name: "a later condition gives the same variant", filters: `{"groups":[{"properties":[` + isBeta + `],"variant":"y"},{"variant":"y"}],` + variants + `}`,
			request: pro, want: `"y" condition_match/1`,
		},
		{
			name: "an earlier condition decides", filters: `{"groups":[{"properties":[` + isPro + `]},{"properties":[` + isBeta + `]}]}`, request: pro,
			want: "true condition_match/0",
		},
		{
			name: "early exit of an unknown condition", filters: `{"early_exit":true,"groups":[{"properties":[` + isBeta + `],"rollout_percentage":0},{}]}`,
			request: pro, want: "failed database_unavailable",
		},
		{
			name: "early exit that changes nothing", filters: `{"early_exit":true,"groups":[{"properties":[` + isBeta + `],"rollout_percentage":0}]}`,
			request: pro, want: "false out_of_rollout_bound/0",
		},
		{name: "is_not", filters: `{"groups":[{"properties":[{"key":"k","operator":"is_not","value":1}]}]}`, request: pro, want: "failed database_unavailable"},
		{name: "is_set", filters: `{"groups":[{"properties":[{"key":"k","operator":"is_set"}]}]}`, request: pro, want: "failed database_unavailable"},
		{name: "is_not_set", filters: `{"groups":[{"properties":[{"key":"k","operator":"is_not_set"}]}]}`, request: pro, want: "failed database_unavailable"},
		{name: "GeoIP", filters: `{"groups":[{"properties":[{"key":"$geoip_country_code","value":"DE"}]}]}`, request: pro, want: "failed database_unavailable"},
		{
			name: "persons table", filters: `{"groups":[{"properties":[{"key":"created_at","type":"person_metadata","operator":"is_set"}]}]}`,
			request: `{"distinct_id":"a","person_properties":{"created_at":"2020-01-01"}}`, want: "failed database_unavailable",
		},
	} {
		s.run(t)
	}
}

func TestIdentifiers(t *testing.T) {
	// "f.in" lies below a half and "f.out" above, as does the empty variant range.
	half := `{"groups":[{"rollout_percentage":50}]}`
	continuity, device := `,"ensure_experience_continuity":true`, `,"bucketing_identifier":"device_id"`
	in, out := "d", "a"
	s := &Scratch{}
	if h := s.hash("f.", in, ""); h > 0.5 {
		in, out = out, in
	}
	if s.hash("f.", in, "") > 0.5 || s.hash("f.", out, "") <= 0.5 {
		t.Fatalf("identifiers on the wrong side: %v, %v", s.hash("f.", in, ""), s.hash("f.", out, ""))
	}
	const yes0, no0 = "true condition_match/0", "false out_of_rollout_bound/0"
	for _, s := range []scenario{
		{name: "distinct id in", filters: half, request: `{"distinct_id":"` + in + `"}`, want: yes0},
		{name: "distinct id out", filters: half, request: `{"distinct_id":"` + out + `"}`, want: no0},
		{name: "anonymous id does not matter", filters: half, request: `{"distinct_id":"` + out + `","$anon_distinct_id":"` + in + `"}`, want: no0},
		{name: "continuity", filters: half, columns: continuity, request: `{"distinct_id":"` + out + `","$anon_distinct_id":"` + in + `"}`, want: yes0},
		{
			name: "continuity without anonymous id", filters: half, columns: continuity, request: `{"distinct_id":"` + in + `"}`,
			want: "failed hash_key_override_error",
		},
		{name: "continuity cannot matter", filters: `{"groups":[{}]}`, columns: continuity, request: anybody, want: yes0},
		{name: "continuity at 0 %", filters: `{"groups":[{"rollout_percentage":0}]}`, columns: continuity, request: anybody, want: no0},
		{
			name: "continuity at 0 %, empty id", filters: `{"groups":[{"rollout_percentage":0}]}`, columns: continuity, request: `{"distinct_id":""}`,
			want: "failed hash_key_override_error",
		},
		{
			name: "continuity and early exit", filters: `{"early_exit":true,"groups":[{"rollout_percentage":50},{}]}`, columns: continuity,
			request: anybody, want: "failed hash_key_override_error",
		},
		{
			name: "continuity and variants", filters: `{"groups":[{}],` + variants + `}`, columns: continuity, request: anybody,
			want: "failed hash_key_override_error",
		},
		{
			name: "continuity and a chosen variant", filters: `{"groups":[{"variant":"x"}],` + variants + `}`, columns: continuity, request: anybody,
			want: `"x" condition_match/0`,
		},
		{
			name: "continuity and one variant for all", columns: continuity, request: anybody,
			filters: `{"groups":[{}],"multivariate":{"variants":[{"key":"z","rollout_percentage":0},{"key":"x","rollout_percentage":100}]}}`,
			want:    `"x" condition_match/0`,
		},
		{name: "device", filters: half, columns: device, request: `{"distinct_id":"` + out + `","device_id":"` + in + `"}`, want: yes0},
		{
			name: "device in the properties", filters: half, columns: device,
			request: `{"distinct_id":"` + out + `","person_properties":{"$device_id":"` + in + `"}}`, want: yes0,
		},
		{
			name: "device before continuity", filters: half, columns: device + continuity,
			request: `{"distinct_id":"` + out + `","device_id":"` + in + `"}`, want: yes0,
		},
		{name: "no device", filters: `{"groups":[{},{}]}`, columns: device, request: anybody, want: "false out_of_rollout_bound/1"},
		{
			name: "no device, but a group", filters: `{"groups":[{},{"aggregation_group_type_index":0}]}`, columns: device,
			request: `{"distinct_id":"a","groups":{"organization":"o"}}`, want: "true condition_match/1",
		},
	} {
		s.run(t)
	}
}

func TestGroups(t *testing.T) {
	tier := `{"key":"tier","type":"group","group_type_index":0,"value":"gold"}`
	byGroup := `{"aggregation_group_type_index":0,"groups":[{"properties":[` + tier + `]}]}`
	gold := `"group_properties":{"organization":{"tier":"gold"}}`
	for _, s := range []scenario{
		{name: "match", filters: byGroup, request: `{"distinct_id":"a","groups":{"organization":"o"},` + gold + `}`, want: "true condition_match/0"},
		{name: "no such group", filters: byGroup, request: `{"distinct_id":"a","groups":{"project":"p"},` + gold + `}`, want: "false no_group_type/0"},
		{name: "unusable key", filters: byGroup, request: `{"distinct_id":"a","groups":{"organization":true},` + gold + `}`, want: "false no_group_type/0"},
		{name: "property unknown", filters: byGroup, request: `{"distinct_id":"a","groups":{"organization":"o"}}`, want: "failed database_unavailable"},
		{
			name: "its key is a property", filters: `{"aggregation_group_type_index":0,"groups":[{"properties":[{"key":"$group_key","type":"group","value":"42"}]}]}`,
			request: `{"distinct_id":"a","groups":{"organization":42}}`, want: "true condition_match/0",
		},
		{
			name: "mixed: persons", filters: `{"aggregation_group_type_index":0,"groups":[{"aggregation_group_type_index":null,"properties":[` + isPro + `]}]}`,
			request: pro, want: "true condition_match/0",
		},
		{
			name: "skipped groups show", filters: `{"aggregation_group_type_index":0,"groups":[{},{"aggregation_group_type_index":null,"properties":[` + isPro + `]}]}`,
			request: free, want: "false no_condition_match/1",
		},
		{name: "property of a group there is not", filters: `{"groups":[{"properties":[` + tier + `]}]}`, request: free, want: "false no_condition_match/0"},
		{
			name: "absent is not another value", request: free, want: "true condition_match/0",
			filters: `{"groups":[{"properties":[{"key":"tier","type":"group","group_type_index":0,"operator":"is_not","value":"x"}]}]}`,
		},
		{
			name: "no group type at all", filters: `{"groups":[{"properties":[{"key":"tier","type":"group","operator":"is_not_set"}]}]}`, request: free,
			want: "true condition_match/0",
		},
		{name: "type without name", filters: `{"aggregation_group_type_index":4,"groups":[{}]}`, request: free, want: "false no_group_type/0"},
		{
			name: "type without name, but groups", filters: `{"aggregation_group_type_index":4,"groups":[{"rollout_percentage":50}]}`,
			request: `{"distinct_id":"a","groups":{"x":"y"}}`, want: "failed group_mapping_retry",
		},
	} {
		s.run(t)
	}
}

func TestEarlyAccessAndHoldouts(t *testing.T) {
	enrolled := func(v string) string {
		return `{"distinct_id":"user-31","person_properties":{"$feature_enrollment/f":` + v + `}}`
	}
	super := `"super_groups":[{"properties":[{"key":"$feature_enrollment/f","type":"person","operator":"exact","value":["true"]}],"rollout_percentage":100}]`
	for _, s := range []scenario{
		{name: "enrolled", filters: `{"feature_enrollment":true,"groups":[]}`, request: enrolled(`true`), want: "true super_condition_value/0"},
		{name: "enrolled by text", filters: `{"feature_enrollment":true,"groups":[]}`, request: enrolled(`"TRUE"`), want: "true super_condition_value/0"},
		{name: "not enrolled", filters: `{"feature_enrollment":true,"groups":[{}]}`, request: enrolled(`"no"`), want: "false super_condition_value/0"},
		{name: "perhaps enrolled", filters: `{"feature_enrollment":true,"groups":[{}]}`, request: anybody, want: "failed database_unavailable"},
		{
			name: "newer form counts", filters: `{"feature_enrollment":true,` + super + `,"groups":[]}`, request: enrolled(`true`),
			want: "true super_condition_value/0",
		},
		{name: "older form, enrolled", filters: `{` + super + `,"groups":[]}`, request: enrolled(`true`), want: "true super_condition_value/0"},
		{name: "older form, not enrolled", filters: `{` + super + `,"groups":[{}]}`, request: enrolled(`false`), want: "false super_condition_value/0"},
		{name: "older form, perhaps", filters: `{` + super + `,"groups":[{}]}`, request: anybody, want: "failed database_unavailable"},
		{
			name: "older form, can only say no", request: anybody, want: "false no_group_type",
			filters: `{"super_groups":[{"properties":[{"key":"e","value":["true"]}],"rollout_percentage":0}],"groups":[]}`,
		},
		{
			name: "older form without properties", filters: `{"super_groups":[{"properties":[],"rollout_percentage":0}],"groups":[{}]}`, request: anybody,
			want: "false super_condition_value/0",
		},
		{
			name: "holdout", filters: `{"holdout":{"id":7,"exclusion_percentage":10},"groups":[{}]}`, request: `{"distinct_id":"user-31"}`,
			want: `"holdout-7" holdout_condition_value`,
		},
		{
			name: "older holdout", filters: `{"holdout_groups":[{"properties":[],"rollout_percentage":10,"variant":"holdout-7"}],"groups":[{}]}`,
			request: `{"distinct_id":"user-31"}`, want: `"holdout-7" holdout_condition_value`,
		},
		{
			name: "holdout is clamped", filters: `{"holdout":{"id":7,"exclusion_percentage":170},"groups":[{}]}`, request: anybody,
			want: `"holdout-7" holdout_condition_value`,
		},
		{
			name: "holdout takes no stored hash key", filters: `{"holdout":{"id":7,"exclusion_percentage":10},"groups":[{}]}`,
			columns: `,"ensure_experience_continuity":true`, request: `{"distinct_id":"user-31"}`, want: `"holdout-7" holdout_condition_value`,
		},
		{
			name: "holdout takes the anonymous id", filters: `{"holdout":{"id":7,"exclusion_percentage":10},"groups":[{}]}`,
			columns: `,"ensure_experience_continuity":true`, request: `{"distinct_id":"user-77","$anon_distinct_id":"user-31"}`,
			want: `"holdout-7" holdout_condition_value`,
		},
	} {
		s.run(t)
	}
}

func TestLegacyDocuments(t *testing.T) {
	for _, s := range []scenario{
		{name: "empty", filters: `{}`, request: anybody, want: "false no_group_type"},
		{name: "empty in 2023", filters: `{}`, rules: Rules2023, request: anybody, want: "true condition_match/0"},
		{name: "no groups in 2023", filters: `{"groups":[]}`, rules: Rules2023, request: anybody, want: "false no_group_type"},
		{name: "column", filters: `{}`, columns: `,"rollout_percentage":0`, request: anybody, want: "false out_of_rollout_bound/0"},
		{name: "column beside groups", filters: `{"groups":[]}`, columns: `,"rollout_percentage":100`, request: anybody, want: "false no_group_type"},
		{name: "properties", filters: `{"properties":[{"key":"plan","value":"pro"}]}`, request: pro, want: "true condition_match/0"},
	} {
		s.run(t)
	}
}

func TestUnreadableFlagsFailAlone(t *testing.T) { // S26, S27
	good := flagOf(2, "good", `{"groups":[{}]}`)
	for _, filters := range []string{
		`null`, `[]`, `"x"`, `{"groups":"x"}`, `{"groups":[7]}`, `{"version":2,"rules":[]}`, `{"groups":[{"rollout_percentage":"50"}]}`,
		`{"groups":[{"properties":{}}]}`, `{"groups":[{"properties":[{}]}]}`, `{"groups":[{"properties":[{"key":"a","operator":"smells_like","value":1}]}]}`,
		`{"groups":[{"properties":[{"key":"a","type":"moon","value":1}]}]}`, `{"groups":[],"multivariate":{}}`, `{"groups":[{"variant":7}]}`,
		`{"groups":[],"multivariate":{"variants":[{"key":"x"}]}}`, `{"groups":[],"holdout":{"id":1}}`, `{"groups":[{"aggregation_group_type_index":"a"}]}`,
		`{"groups":[],"aggregation_group_type_index":1.5}`, `{"groups":[],"super_groups":{}}`, `{"groups":[],"holdout_groups":[{}]}`,
		`{"groups":[{"properties":[{"key":"a","type":"group","group_type_index":"x"}]}]}`,
		`{"groups":[{"properties":[{"key":"a","value":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}]}]}`,
	} {
		p := Compile(teamOf(flagOf(1, "f", filters), good), Options{})
		d := p.Evaluate(inputOf(t, anybody), &Scratch{})
		want := map[string]string{"f": "failed data_parsing_error", "good": "true condition_match/0"}
		if diff := cmp.Diff(want, outcomesOf(d)); diff != "" || !d.Errors {
			t.Errorf("%.80s (-want +got):\n%s", filters, diff)
		}
		if problems := p.Problems(); len(problems) != 1 || problems[0].FlagID != 1 || problems[0].Reason == "" {
			t.Errorf("%.80s: problems %+v", filters, problems)
		}
		if v1 := string(d.AppendFeatureFlags(nil)); v1 != `{"good":true}` {
			t.Errorf("%.80s: v1 %s, want the failed flag left out", filters, v1)
		}
	}
}

func TestOmittedFlags(t *testing.T) {
	with := func(id int, key, columns string) string {
		return strings.TrimSuffix(flagOf(id, key, `{"groups":[{}]}`), "}") + columns + "}"
	}
	team := teamOf(
		with(1, "plain", ""), with(2, "encrypted", `,"has_encrypted_payloads":true`), strings.Replace(with(3, "off", ""), `"active":true`, `"active":false`, 1),
		strings.Replace(with(4, "gone", ""), `"deleted":false`, `"deleted":true`, 1), with(5, "survey-targeting-x", ""), `{"id":6}`, `7`,
		with(8, "plain", ""),
	)
	p := Compile(team, Options{})
	all := map[string]string{"plain": "true condition_match/0", "survey-targeting-x": "true condition_match/0"}
	if diff := cmp.Diff(all, outcomes(t, p, anybody)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	in := inputOf(t, anybody)
	in.SurveysOnly = true
	if diff := cmp.Diff(map[string]string{"survey-targeting-x": "true condition_match/0"}, outcomesOf(p.Evaluate(in, &Scratch{}))); diff != "" {
		t.Errorf("surveys only (-want +got):\n%s", diff)
	}
	in.SurveysOnly, in.Keys = false, []string{"plain", "unknown"}
	if diff := cmp.Diff(map[string]string{"plain": "true condition_match/0"}, outcomesOf(p.Evaluate(in, &Scratch{}))); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if in.Keys = []string{}; len(p.Evaluate(in, &Scratch{}).Results) != 0 {
		t.Error("an empty list of keys asks for nothing")
	}
}

func TestPayloads(t *testing.T) {
	filters := `{"groups":[{"variant":"x"}],` + variants + `,"payloads":{"x":"{\"a\": \"<\\u00e9&>\"}","y":null,"true":{"raw": 1}}}`
	p := Compile(teamOf(flagOf(1, "f", filters), flagOf(2, "g", `{"groups":[{}],"payloads":{"true":{"raw": [1.50]}}}`)), Options{})
	d := p.Evaluate(inputOf(t, anybody), &Scratch{})
	want := `{"f":"{\"a\": \"<\\u00e9&>\"}","g":{"raw": [1.50]}}` // as stored, byte for byte
	if got := string(d.AppendPayloads(nil)); got != want {
		t.Errorf("payloads %s, want %s", got, want)
	}
}

func TestManyConditions(t *testing.T) { // more than have their reason prepared
	groups := strings.Repeat(`{"properties":[`+isPro+`]},`, 70) + `{}`
	p := Compile(teamOf(flagOf(1, "f", `{"groups":[`+groups+`]}`)), Options{})
	got := string(p.Evaluate(inputOf(t, free), &Scratch{}).AppendFlagsV2(nil))
	if want := `"reason":{"code":"condition_match","condition_index":70,"description":"Matched condition set 71"}`; !strings.Contains(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSharedFlags(t *testing.T) {
	team := teamOf(flagOf(1, "own", `{"groups":[{}]}`), flagOf(2, "both", `{"groups":[{}]}`))
	sibling := teamOf(flagOf(3, "both", `{"groups":[]}`), flagOf(4, "theirs", `{"groups":[{"properties":[{"key":"id","type":"cohort","value":5}]}]}`))
	sibling.Cohorts = append(sibling.Cohorts, cohortOf(5, `"filters":{"properties":{"type":"AND","values":[`+isPro+`]}}`))
	got := outcomesOf(CompileShared(team, []*flagcache.Team{sibling}, Options{}).Evaluate(inputOf(t, pro), &Scratch{}))
	want := map[string]string{"own": "true condition_match/0", "both": "true condition_match/0", "theirs": "true condition_match/0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
