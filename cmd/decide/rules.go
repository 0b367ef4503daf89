package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/everflag/everflag/internal/admin/pages"
	"github.com/everflag/everflag/internal/flagcache"
)

// object is a JSON object of which whatever can be read is shown: pages have to be of use where definitions are broken.
type object map[string]json.RawMessage

func objectOf(raw []byte) (o object) {
	_ = json.Unmarshal(raw, &o) // what is no object has no members
	return o
}

func objects(raw json.RawMessage) (list []object) {
	_ = json.Unmarshal(raw, &list) // likewise
	return list
}

func (o object) has(name string) bool {
	raw := o[name]
	return len(raw) > 0 && string(raw) != "null"
}

func (o object) truth(name string) bool { return string(o[name]) == "true" }

// text is the text of a string, and any other value as it stands.
func (o object) text(name string) string {
	if !o.has(name) {
		return ""
	}
	return plain(o[name])
}

func (o object) number(name string) (n int64, ok bool) {
	n, err := strconv.ParseInt(o.text(name), 10, 64)
	return n, err == nil
}

func plain(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

// teamView is a team as pages show it.
type teamView struct {
	ID                             int64
	Name, Token, Version, Timezone string
	Project                        string
	Flags                          []*flagView

	groups  map[int64]string  // group types by index
	cohorts map[string]object // by id
	byID    map[string]*flagView
}

// flagView is a flag's rules in readable form.
type flagView struct {
	ID         int64
	Key, Name  string
	Active     bool
	Problem    string // why it does not compile; empty if it does
	Conditions []conditionView
	Hidden     int // conditions that the page has no room for
	Variants   []variantView
	Payload    string   // of the value true
	Notes      []string // what else decides
	Cohorts    []cohortView
	Raw        string // the filters as stored

	record object
}

type conditionView struct {
	Number  int
	Rollout string
	Who     string
	Tests   []testView
	Hidden  int // tests that the page has no room for
	Variant string
}

// testView is one test of a condition, read from left to right.
type testView struct {
	Subject, Verb, Value string
	Flag                 int64 // that Subject names; 0 = none
}

type variantView struct{ Key, Name, Share, Payload string }

type cohortView struct{ Name, Rule string }

// viewTeam reads the records. Rules are read only for the flags that are shown in full.
func viewTeam(team *flagcache.Team, problems map[int64]string) *teamView {
	row := objectOf(team.Team)
	v := &teamView{
		ID: team.ID, Name: row.text("name"), Token: row.text("api_token"), Version: team.Version, Timezone: row.text("timezone"), Project: row.text("project_id"),
		groups: map[int64]string{}, cohorts: map[string]object{}, byID: map[string]*flagView{},
	}
	for _, r := range team.GroupTypes {
		g := objectOf(r.JSON)
		if index, ok := g.number("group_type_index"); ok {
			v.groups[index] = g.text("group_type")
		}
	}
	for _, r := range team.Cohorts {
		v.cohorts[r.Key] = objectOf(r.JSON)
	}
	for _, r := range team.Flags {
		row := objectOf(r.JSON)
		id, _ := strconv.ParseInt(r.Key, 10, 64) // 0 shows a flag that nothing links to
		f := &flagView{ID: id, Key: row.text("key"), Name: row.text("name"), Active: row.truth("active"), Problem: problems[id], record: row}
		v.Flags = append(v.Flags, f)
		v.byID[r.Key] = f
	}
	return v
}

// Summary says in a few words what a flag's rules consist of.
func (f *flagView) Summary() string {
	filters := objectOf(f.record["filters"])
	parts := []string{pages.Count(len(conditionsOf(filters, f.record)), "condition")}
	if n := len(objects(objectOf(filters["multivariate"])["variants"])); n > 0 {
		parts = append(parts, pages.Count(n, "variant"))
	}
	return strings.Join(parts, ", ")
}

// conditionsOf are the conditions of a flag, also in the form of 2021 and before.
func conditionsOf(filters, row object) []object {
	if _, ok := filters["groups"]; ok {
		return objects(filters["groups"])
	}
	if filters.has("properties") || row.has("rollout_percentage") {
		return []object{{"properties": filters["properties"], "rollout_percentage": row["rollout_percentage"]}}
	}
	return nil
}

// maxTests is how many conditions and tests a page has room for.
const maxTests = 80

// explainRules fills in the rules of a flag.
func (v *teamView) explainRules(f *flagView, team *flagcache.Team) {
	filters := objectOf(f.record["filters"])
	payloads := objectOf(filters["payloads"])
	if f.record.truth("has_encrypted_payloads") && payloads != nil {
		for value := range payloads {
			payloads[value] = json.RawMessage(`"encrypted: only PostHog can read it"`)
		}
		filters["payloads"], _ = json.Marshal(payloads) // raw JSON in a map always encodes
	}
	conditions, room := conditionsOf(filters, f.record), maxTests
	for i, c := range conditions {
		if room <= 0 {
			f.Hidden = len(conditions) - i
			break
		}
		view := v.condition(f, i, c, filters)
		shown := min(len(view.Tests), room)
		view.Tests, view.Hidden = view.Tests[:shown], len(view.Tests)-shown
		f.Conditions = append(f.Conditions, view)
		room -= shown + 1
	}
	for _, variant := range objects(objectOf(filters["multivariate"])["variants"]) {
		key := variant.text("key")
		f.Variants = append(f.Variants, variantView{key, variant.text("name"), percentage(variant.text("rollout_percentage")), payloads.text(key)})
	}
	f.Payload = payloads.text("true")
	f.Notes = v.notes(f, filters, team)
	if text, err := json.MarshalIndent(filters, "", "  "); err == nil && filters != nil {
		f.Raw = string(text)
	} else if !f.record.truth("has_encrypted_payloads") {
		f.Raw = string(f.record["filters"])
	}
}

func (v *teamView) condition(f *flagView, i int, c, filters object) conditionView {
	view := conditionView{Number: i + 1, Rollout: "100", Who: "persons", Variant: c.text("variant")}
	if c.has("rollout_percentage") {
		view.Rollout = percentage(c.text("rollout_percentage"))
	}
	aggregation := filters
	if _, own := c["aggregation_group_type_index"]; own {
		aggregation = c
	}
	if index, ok := aggregation.number("aggregation_group_type_index"); ok {
		view.Who = "groups of type " + v.group(index)
	} else if f.record.text("bucketing_identifier") == "device_id" {
		view.Who = "devices"
	}
	for _, p := range objects(c["properties"]) {
		view.Tests = append(view.Tests, v.test(f, p))
	}
	return view
}

// percentage shortens thirds and the like; what is no number stays as it is.
func percentage(text string) string {
	if number, err := strconv.ParseFloat(text, 64); err == nil && len(text) > 6 {
		return strconv.FormatFloat(number, 'g', 4, 64)
	}
	return text
}

func (v *teamView) group(index int64) string {
	if name := v.groups[index]; name != "" {
		return name
	}
	return fmt.Sprintf("%d, which has no name", index)
}

func (v *teamView) test(f *flagView, p object) testView {
	key, operator := p.text("key"), p.text("operator")
	switch p.text("type") {
	case "cohort":
		id := p.text("value")
		t := testView{Subject: "the person", Verb: "is in cohort", Value: v.cohortName(id)}
		if operator == "not_in" || p.truth("negation") {
			t.Verb = "is not in cohort"
		}
		v.addCohort(f, id)
		return t
	case "flag":
		t := testView{Subject: "flag " + key, Verb: "has the variant", Value: quoted(p["value"])}
		if other := v.byID[key]; other != nil {
			t.Subject, t.Flag = "flag "+other.Key, other.ID
		}
		switch string(p["value"]) {
		case "true":
			t.Verb, t.Value = "is on", ""
		case "false":
			t.Verb, t.Value = "is off", ""
		}
		return t
	case "group":
		if index, ok := p.number("group_type_index"); ok {
			key += " of the " + v.group(index)
		}
	case "behavioral":
		return testView{Subject: "the person", Verb: "did, as events tell,", Value: key}
	}
	return compare(key, operator, p)
}

// verbs are operators in words: for one value, and for a list.
var verbs = map[string][2]string{
	"": {"is", "is one of"}, "exact": {"is", "is one of"}, "is_not": {"is not", "is none of"}, "is_set": {"is set", ""}, "is_not_set": {"is not set", ""},
	"icontains": {"contains", "contains"}, "not_icontains": {"does not contain", "does not contain"},
	"icontains_multi": {"contains", "contains one of"}, "not_icontains_multi": {"does not contain", "contains none of"},
	"starts_with": {"begins with", "begins with"}, "not_starts_with": {"does not begin with", "does not begin with"},
	"ends_with": {"ends with", "ends with"}, "not_ends_with": {"does not end with", "does not end with"},
	"regex": {"matches", "matches"}, "not_regex": {"does not match", "does not match"},
	"gt": {"is greater than", ""}, "gte": {"is at least", ""}, "lt": {"is less than", ""}, "lte": {"is at most", ""},
	"between": {"is between", "is between"}, "not_between": {"is not between", "is not between"},
	"is_date_before": {"is before", ""}, "is_date_after": {"is after", ""}, "is_date_exact": {"is on", ""},
	"is_relative_date_before": {"is before", ""}, "is_relative_date_after": {"is after", ""},
	"semver_eq": {"is version", ""}, "semver_neq": {"is not version", ""}, "semver_gt": {"is later than version", ""}, "semver_gte": {"is at least version", ""},
	"semver_lt": {"is earlier than version", ""}, "semver_lte": {"is at most version", ""}, "semver_tilde": {"is a version in ~", ""},
	"semver_caret": {"is a version in ^", ""}, "semver_wildcard": {"is a version like", ""},
}

func compare(key, operator string, p object) testView {
	t := testView{Subject: key, Verb: operator, Value: quoted(p["value"])}
	words, known := verbs[operator]
	if !known {
		return t
	}
	t.Verb = words[0]
	var list []json.RawMessage
	if json.Unmarshal(p["value"], &list) == nil && words[1] != "" {
		if len(list) != 1 {
			t.Verb = words[1]
		}
		items := make([]string, len(list))
		for i, item := range list {
			items[i] = quoted(item)
		}
		t.Value = strings.Join(items, ", ")
	}
	if operator == "is_set" || operator == "is_not_set" {
		t.Value = ""
	}
	return t
}

// quoted is a value as people write it: text in quotes, all else as it stands.
func quoted(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil && string(raw) != "null" {
		return "“" + text + "”"
	}
	return string(raw)
}

func (v *teamView) cohortName(id string) string {
	if name := v.cohorts[id].text("name"); name != "" {
		return fmt.Sprintf("%s (%s)", name, id)
	}
	return id
}

// addCohort adds the rule of a cohort to the flag, once, and those of cohorts that it refers to.
func (v *teamView) addCohort(f *flagView, id string) {
	name := v.cohortName(id)
	if slices.ContainsFunc(f.Cohorts, func(c cohortView) bool { return c.Name == name }) {
		return
	}
	c, ok := v.cohorts[id]
	if !ok {
		f.Cohorts = append(f.Cohorts, cohortView{name, "does not exist"})
		return
	}
	at := len(f.Cohorts)
	f.Cohorts = append(f.Cohorts, cohortView{Name: name})
	rule := "a list of persons, which only PostHog's database knows"
	if !c.truth("is_static") {
		rule = v.cohortRule(f, objectOf(objectOf(c["filters"])["properties"]), 0)
	}
	f.Cohorts[at].Rule = rule
}

// cohortRule is a cohort's tree as one sentence.
func (v *teamView) cohortRule(f *flagView, node object, depth int) string {
	if depth > 8 {
		return "…"
	}
	values, inner := objects(node["values"]), node.text("type") == "AND" || node.text("type") == "OR"
	if !inner {
		t := v.test(f, node)
		text := strings.TrimSpace(t.Subject + " " + t.Verb + " " + t.Value)
		if node.truth("negation") && node.text("type") != "cohort" {
			text = "not (" + text + ")"
		}
		return text
	}
	parts := make([]string, len(values))
	for i, value := range values {
		parts[i] = v.cohortRule(f, value, depth+1)
	}
	text := strings.Join(parts, " "+strings.ToLower(node.text("type"))+" ")
	if depth > 0 && len(parts) > 1 {
		text = "(" + text + ")"
	}
	if text == "" {
		return "no rule"
	}
	return text
}

// notes say what decides beside the conditions, in the order in which it is asked.
func (v *teamView) notes(f *flagView, filters object, team *flagcache.Team) (notes []string) {
	note := func(applies bool, format string, args ...any) {
		if applies {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	row := f.record
	runtime := row.text("evaluation_runtime")
	note(runtime == "client" || runtime == "server", "Only for SDKs of the %s side.", runtime)
	var contexts []string
	names := map[string]string{}
	for _, r := range team.Contexts {
		names[r.Key] = objectOf(r.JSON).text("name")
	}
	for _, r := range team.FlagContexts {
		if link := objectOf(r.JSON); link.text("feature_flag_id") == strconv.FormatInt(f.ID, 10) {
			contexts = append(contexts, names[link.text("evaluation_context_id")])
		}
	}
	note(len(contexts) > 0, "Only for requests of these contexts: %s.", strings.Join(contexts, ", "))
	note(row.truth("has_encrypted_payloads"), "Its payloads are encrypted, so PostHog's answers do not contain it, and neither do ours.")
	note(filters.truth("feature_enrollment") || len(objects(filters["super_groups"])) > 0, "Early access: who enrolled or declined gets that, whatever the conditions say.")
	if h := objectOf(filters["holdout"]); filters.has("holdout") {
		note(true, "Holdout %s takes %s %% out before any condition.", h.text("id"), h.text("exclusion_percentage"))
	} else if old := objects(filters["holdout_groups"]); len(old) > 0 {
		note(true, "A holdout takes %s %% out before any condition.", old[0].text("rollout_percentage"))
	}
	note(filters.truth("early_exit"), "The first condition whose tests hold decides, also if its rollout says no.")
	note(row.truth("ensure_experience_continuity"), "Stays the same for a person before and after login.")
	note(row.text("bucketing_identifier") == "device_id", "Chosen by device, whoever uses it.")
	for _, r := range team.Experiments {
		e := objectOf(r.JSON)
		note(e.text("feature_flag_id") == strconv.FormatInt(f.ID, 10), "Part of experiment %s.", r.Key)
	}
	return notes
}
