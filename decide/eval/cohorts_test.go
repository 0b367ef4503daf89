package eval

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/everflag/everflag/internal/flagcache"
)

func inCohort(id int) string {
	return fmt.Sprintf(`{"key":"id","type":"cohort","value":%d}`, id)
}

func TestCohorts(t *testing.T) { // S32, S33
	and := func(values ...string) string {
		return `"filters":{"properties":{"type":"AND","values":[` + strings.Join(values, ",") + `]}}`
	}
	or := func(values ...string) string { return `{"type":"OR","values":[` + strings.Join(values, ",") + `]}` }
	not := func(leaf string) string { return strings.TrimSuffix(leaf, "}") + `,"negation":true}` }
	behaviour := `{"key":"$pageview","type":"behavioral","value":"performed_event"}`
	for _, c := range []struct{ name, cohort, request, want string }{
		{"two levels", and(or(isPro)), pro, "true"},
		{"flat", and(isPro), pro, "true"},
		{"deep", and(or(`{"type":"AND","values":[` + or(`{"type":"property","values":[`+isPro+`]}`) + `]}`)), pro, "true"},
		{"no match", and(isPro), free, "false"},
		{"negated leaf", and(not(isPro)), free, "true"},
		{"negated error is true", and(not(`{"key":"plan","operator":"gt","value":5}`)), pro, "true"},
		{"negated unknown stays unknown", and(not(isBeta)), pro, "unknown"},
		{"or: one true is enough", and(or(isBeta, isPro)), pro, "true"},
		{"or: unknown", and(or(isBeta, isPro)), free, "unknown"},
		{"and: one false is enough", and(isBeta, isPro), free, "false"},
		{"and: unknown", and(isBeta, isPro), pro, "unknown"},
		{"behavioural", and(behaviour), pro, "unknown"},
		{"behavioural, not decisive", and(or(behaviour, isPro)), pro, "true"},
		{"nested", and(inCohort(2)), pro, "true"},
		{"nested, negated", and(not(inCohort(2))), free, "true"},
		{"nested, not_in", and(strings.Replace(inCohort(2), "}", `,"operator":"not_in"}`, 1)), free, "true"},
		{"nested, numeric text", and(`{"key":"id","type":"cohort","value":"2"}`), pro, "true"},
		{"nested exact is never", and(strings.Replace(inCohort(2), "}", `,"operator":"exact"}`, 1)), pro, "false"},
		{"static", and(inCohort(3)), pro, "unknown"},
		{"no definition", `"filters":null`, pro, "false"},
		{"empty definition", `"filters":{"properties":{}}`, pro, "false"},
		{"legacy groups", `"filters":null,"groups":[{"properties":[` + isBeta + `]},{"properties":[` + isPro + `]}]`, pro, "true"},
		{"legacy pairs", `"filters":null,"groups":[{"properties":{"plan__icontains":"PR"}}]`, pro, "true"},
		{"legacy pairs, exact", `"filters":null,"groups":[{"properties":{"plan":"pro"}}]`, free, "false"},
		{"legacy tree", `"filters":null,"groups":[{"properties":{"type":"AND","values":[` + isPro + `]}}]`, pro, "true"},
		{"legacy events", `"filters":null,"groups":[{"days":"7","event_id":"x"}]`, pro, "unknown"},
		{"missing", and(inCohort(77)), pro, "fault dependency_not_found_cohort"},
		{"missing, deeper", and(inCohort(4)), pro, "fault dependency_not_found_cohort"},
		{"itself", and(inCohort(1)), pro, "fault dependency_cycle_cohort"},
		{"cycle", and(inCohort(5)), pro, "fault dependency_cycle_cohort"},
		{"unreadable", `"filters":{"properties":{"type":"XOR","values":[]}}`, pro, "fault cohort_filters_parsing_error"},
		{"unreadable operator", and(`{"key":"a","operator":"smells"}`), pro, "fault cohort_filters_parsing_error"},
		{"reference without id", and(`{"key":"id","type":"cohort","value":"x"}`), pro, "fault cohort_filters_parsing_error"},
	} {
		team := teamOf(
			flagOf(1, "in", `{"groups":[{"properties":[`+inCohort(1)+`]}]}`),
			flagOf(2, "out", `{"groups":[{"properties":[`+strings.Replace(inCohort(1), "}", `,"operator":"not_in"}`, 1)+`]}]}`),
		)
		if strings.Contains(c.cohort, `"groups"`) {
			team.Cohorts = append(team.Cohorts, flagcache.Record{Key: "1", JSON: []byte(`{"id":1,` + c.cohort + `}`)})
		} else {
			team.Cohorts = append(team.Cohorts, cohortOf(1, c.cohort))
		}
		team.Cohorts = append(team.Cohorts, cohortOf(2, and(isPro)), flagcache.Record{Key: "3", JSON: []byte(`{"id":3,"is_static":true}`)},
			cohortOf(4, and(inCohort(77))), cohortOf(5, and(inCohort(6))), cohortOf(6, and(inCohort(5))),
			flagcache.Record{Key: "77", JSON: []byte(`{"id":77,"deleted":true,"filters":{}}`)})
		got := outcomes(t, Compile(team, Options{}), c.request)
		in, out := "true condition_match/0", "false no_condition_match/0"
		switch {
		case c.want == "false":
			in, out = out, in
		case c.want == "unknown":
			in, out = "failed database_unavailable", "failed database_unavailable"
		case strings.HasPrefix(c.want, "fault "):
			in = "failed " + strings.TrimPrefix(c.want, "fault ")
			out = in
		}
		if got["in"] != in || got["out"] != out {
			t.Errorf("%s: in %q, out %q; want %q, %q", c.name, got["in"], got["out"], in, out)
		}
	}
}

func TestCohortOperators(t *testing.T) {
	for _, c := range []struct {
		operator string
		rules    Rules
		want     string
	}{
		{`"in"`, RulesCurrent, "true condition_match/0"},
		{`null`, RulesCurrent, "true condition_match/0"},
		{`"exact"`, RulesCurrent, "false no_condition_match/0"},
		{`"exact"`, Rules2023, "true condition_match/0"},
		{`"not_in"`, RulesCurrent, "false no_condition_match/0"},
	} {
		filter := strings.Replace(inCohort(1), "}", `,"operator":`+c.operator+`}`, 1)
		team := teamOf(flagOf(1, "f", `{"groups":[{"properties":[`+filter+`]}]}`))
		team.Cohorts = append(team.Cohorts, cohortOf(1, `"filters":{"properties":{"type":"OR","values":[`+isPro+`]}}`))
		if got := outcomes(t, Compile(team, Options{Rules: c.rules}), pro)["f"]; got != c.want {
			t.Errorf("%s under %v: %s, want %s", c.operator, c.rules, got, c.want)
		}
	}
}

func TestDeepChains(t *testing.T) { // S30, S31: neither a chain nor a cycle costs a stack, and the error names the cohort to fix
	const depth = 10_000
	team := teamOf(flagOf(1, "f", `{"groups":[{"properties":[`+inCohort(1)+`]}]}`), flagOf(2, "g", `{"groups":[{}]}`))
	for i := 1; i <= depth; i++ {
		leaf := isPro
		if i < depth {
			leaf = inCohort(i + 1)
		}
		team.Cohorts = append(team.Cohorts, cohortOf(i, `"filters":{"properties":{"type":"OR","values":[`+leaf+`]}}`))
	}
	if got := outcomes(t, Compile(team, Options{}), pro)["f"]; got != "true condition_match/0" {
		t.Errorf("chain: %s", got)
	}
	team.Cohorts[depth-1] = cohortOf(depth, `"filters":{"properties":{"type":"OR","values":[`+inCohort(5000)+`]}}`)
	p := Compile(team, Options{})
	got := outcomes(t, p, pro)
	if got["f"] != "failed dependency_cycle_cohort" || got["g"] != "true condition_match/0" {
		t.Errorf("cycle: %v", got)
	}
	detail := p.Explain(inputOf(t, pro)).Flags[0].Steps[1].What
	id, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(detail, "in cohort 1 (cohort "), " closes a cycle)"))
	if err != nil || id < 5000 {
		t.Errorf("%q names no cohort of the cycle", detail)
	}

	rows := make([]string, 0, depth)
	for i := 1; i < depth; i++ {
		needs := fmt.Sprintf(`{"key":"%d","type":"flag","operator":"flag_evaluates_to","value":true}`, i+1)
		rows = append(rows, flagOf(i, "f"+strconv.Itoa(i), `{"groups":[{"properties":[`+needs+`]}]}`))
	}
	chain := Compile(teamOf(append(rows, flagOf(depth, "last", `{"groups":[{}]}`))...), Options{})
	if got := outcomes(t, chain, anybody)["f1"]; got != "true condition_match/0" {
		t.Errorf("chain of flags: %s", got)
	}
}

func TestDependencies(t *testing.T) {
	on := func(id int, value string) string {
		return fmt.Sprintf(`{"groups":[{"properties":[{"key":"%d","type":"flag","operator":"flag_evaluates_to","value":%s}]}]}`, id, value)
	}
	yes0, no0 := "true condition_match/0", "false no_condition_match/0"
	variant := flagOf(2, "g", `{"groups":[{"variant":"x"}],`+variants+`}`)
	with := func(old, new string) []string { return []string{strings.Replace(variant, old, new, 1)} }
	for _, s := range []scenario{
		{name: "true", filters: on(2, `true`), others: []string{variant}, want: yes0},
		{name: "false", filters: on(2, `false`), others: []string{variant}, want: no0},
		{name: "variant", filters: on(2, `"x"`), others: []string{variant}, want: yes0},
		{name: "case", filters: on(2, `"X"`), others: []string{variant}, want: no0},
		{name: "number", filters: on(2, `1`), others: []string{variant}, want: no0},
		{name: "text true is a variant", filters: on(2, `"true"`), others: []string{flagOf(2, "g", `{"groups":[{}]}`)}, want: no0},
		{name: "wrong operator", filters: strings.Replace(on(2, `true`), "flag_evaluates_to", "exact", 1), others: []string{variant}, want: no0},
		{name: "no id", filters: strings.Replace(on(2, `true`), `"2"`, `"g"`, 1), others: []string{variant}, want: no0},
		{name: "inactive is false", filters: on(2, `false`), others: with(`"active":true`, `"active":false`), want: yes0},
		{name: "missing", filters: on(2, `false`), want: "false missing_dependency"},
		{name: "below a missing one", filters: on(2, `false`), others: []string{flagOf(2, "g", on(77, `true`))}, want: "false missing_dependency"},
		{name: "deleted", filters: on(2, `false`), others: with(`"deleted":false`, `"deleted":true`), want: "false missing_dependency"},
		{name: "itself", filters: on(1, `true`), want: "false missing_dependency"},
		{name: "cycle", filters: on(2, `true`), others: []string{flagOf(2, "g", on(1, `true`))}, want: "false missing_dependency"},
		{
			name: "below a cycle", filters: on(2, `true`), others: []string{flagOf(2, "g", on(3, `true`)), flagOf(3, "h", on(2, `true`))},
			want: "false missing_dependency",
		},
		{name: "failed", filters: on(2, `false`), others: []string{flagOf(2, "g", `{"groups":[{"properties":[`+isBeta+`]}]}`)}, want: "failed dependency_failed"},
		{
			name: "failed, but not decisive", others: []string{flagOf(2, "g", `{"groups":[{"properties":[`+isBeta+`]}]}`)},
			filters: strings.Replace(on(2, `true`), `]}]}`, `]},{}]}`, 1), want: "true condition_match/1",
		},
		{name: "unreadable", filters: on(2, `true`), others: []string{flagOf(2, "g", `{"groups":[7]}`)}, want: "failed dependency_failed"},
		{name: "unknown kind of document", filters: on(2, `true`), others: []string{flagOf(2, "g", `{"version":2}`)}, want: "failed data_parsing_error"},
		{
			name: "filtered out is false", filters: on(2, `false`), others: with(`"active":true`, `"active":true,"evaluation_runtime":"server"`),
			want: yes0,
		},
	} {
		s.request = free
		s.run(t)
	}
	p := Compile(teamOf(flagOf(1, "f", on(2, `true`)), flagOf(2, "g", `{"groups":[{}]}`), flagOf(3, "h", `{"groups":[{}]}`)), Options{})
	in := inputOf(t, free)
	in.Keys = []string{"f"}
	if got := outcomesOf(p.Evaluate(in, &Scratch{})); len(got) != 1 || got["f"] != yes0 {
		t.Errorf("a flag asked for by key: %v, want it alone, with what it needs", got)
	}
}
