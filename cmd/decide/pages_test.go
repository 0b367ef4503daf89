package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/flagcache"
)

// shelf is a source of teams that the test writes.
type shelf struct {
	teams   map[string]*flagcache.Team
	status  store.Status
	unknown decide.Lookup // the answer for other tokens
}

func (s *shelf) Program(token string) (*eval.Program, decide.Lookup) {
	team, lookup := s.Records(token)
	if team == nil {
		return nil, lookup
	}
	return eval.Compile(team, eval.Options{}), lookup
}

func (s *shelf) Records(token string) (*flagcache.Team, decide.Lookup) {
	if team, ok := s.teams[token]; ok {
		return team, decide.Found
	}
	return nil, s.unknown
}

func (s *shelf) Position() decide.Position { return decide.Position{Ready: true} }
func (s *shelf) Status() store.Status      { return s.status }

func (s *shelf) Teams(query string, limit int) (list []store.Summary) {
	for token, team := range s.teams {
		name := objectOf(team.Team).text("name")
		if len(list) < limit && strings.Contains(strings.ToLower(name), strings.ToLower(query)) {
			list = append(list, store.Summary{ID: team.ID, Token: token, Name: name, Flags: len(team.Flags)})
		}
	}
	return list
}

// teamOf is a team with a name, cohorts and flags as JSON of their columns.
func teamOf(id int64, token, name string, cohorts map[int]string, flags ...string) *flagcache.Team {
	fields := []string{
		flagcache.VersionField, flagcache.Version(7, 0x1A60630), "team", fmt.Sprintf(`{"id":%d,"project_id":%[1]d,"name":%q,"api_token":%q,"timezone":"UTC"}`, id, name, token),
		"grouptype:1", `{"id":1,"group_type":"company","group_type_index":0}`,
	}
	for id, cohort := range cohorts {
		fields = append(fields, fmt.Sprintf("cohort:%d", id), cohort)
	}
	for i, flag := range flags {
		fields = append(fields, fmt.Sprintf("flag:%d", i+1), fmt.Sprintf(`{"id":%d,"active":true,`, i+1)+strings.TrimPrefix(flag, "{"))
	}
	team, _ := flagcache.DecodeTeam(id, fields)
	return team
}

const hostile = `<script>alert(1)</script>"'&{{.}}` + "\u202e"

func hostileJSON() string { return strings.ReplaceAll(hostile, `"`, `\"`) }

// visit asks for a page and holds it to what every page promises.
func visit(t *testing.T, s *shelf, method, address string, form url.Values) (status int, text string) {
	t.Helper()
	p, err := newReader(s, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for pattern, handler := range p.with(map[string]http.Handler{}) {
		mux.Handle(pattern, handler)
	}
	request := httptest.NewRequest(method, address, strings.NewReader(form.Encode()))
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, request)
	text = w.Body.String()
	if len(text) > 100_000 {
		t.Errorf("%s has %d bytes", address, len(text))
	}
	for _, never := range []string{"<script>", " style=", " onclick", "javascript:", "http://", "https://", "ZgotmplZ", "<no value>"} {
		if strings.Contains(text, never) {
			t.Errorf("%s contains %q", address, never)
		}
	}
	if policy := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("%s has the policy %q", address, policy)
	}
	return w.Code, text
}

// contains wants all texts in a page, in their order.
func contains(t *testing.T, page string, texts ...string) {
	t.Helper()
	rest := page
	for _, text := range texts {
		_, after, found := strings.Cut(rest, text)
		if !found {
			t.Errorf("the page does not contain %q (after what was wanted before it):\n%s", text, page)
			return
		}
		rest = after
	}
}

func TestPageIndex(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := &shelf{status: store.Status{Source: "none", Since: now, Error: "dial redis://user:sesame@127.0.0.1: refused", ErrorSince: &now}}
	status, text := visit(t, s, "GET", "/", nil)
	contains(t, text, "no definitions yet", "answered with 503", "refused", `Freshness</dt><dd><span class="figure">none<`, "No teams yet")
	if status != http.StatusOK || strings.Contains(text, "sesame") {
		t.Errorf("status %d, or a secret in %s", status, text)
	}

	s.teams = map[string]*flagcache.Team{"phc_a&b": teamOf(1, "phc_a&b", "Harbour "+hostile, nil)}
	s.status = store.Status{
		Source: "redis", Since: now, Position: flagcache.Version(7, 0x1A60630), Complete: true, Certain: true, Teams: 1, Owner: "db<1>/OWZ5KQ3N7B2X",
		LastChange: new(now.Add(3 * time.Millisecond)), LastCommit: &now,
	}
	_, text = visit(t, s, "GET", "/", nil)
	contains(t, text, "following Redis", "3.0 ms after its commit", "0/1A60630", "written by db&lt;1&gt;/OWZ5K…<", `href="/team?token=phc_a%26b"`, "Harbour &lt;script&gt;")
	_, text = visit(t, s, "GET", "/?q=harb", nil)
	contains(t, text, `value="harb"`, "Harbour")
	if strings.Contains(text, "\u202e") {
		t.Error("a name turns the direction of text")
	}
	_, text = visit(t, s, "GET", "/?q="+url.QueryEscape(hostile+"?"), nil)
	contains(t, text, "No team matches “&lt;script&gt;")
	s.status.Source, s.status.AgeSeconds = "memory", 90
	_, text = visit(t, s, "GET", "/", nil)
	contains(t, text, "serving from memory", "1 min 30 s old")
	if strings.Contains(text, "following Redis") {
		t.Error("two states at a time")
	}
}

func TestPageOfUnknownTeam(t *testing.T) {
	t.Parallel()
	for lookup, want := range map[decide.Lookup]int{decide.Absent: 404, decide.Unavailable: 503} {
		for _, path := range []string{"/team", "/team/flag", "/team/explain"} {
			status, text := visit(t, &shelf{unknown: lookup}, "GET", path+"?token="+url.QueryEscape(hostile), nil)
			if status != want {
				t.Errorf("%s of a token that is %v: status %d, want %d", path, lookup, status, want)
			}
			contains(t, text, "token", "&lt;script&gt;", "answered with")
		}
	}
}

// harbour is a team with a flag for every form that rules are shown in.
func harbour() *flagcache.Team {
	return teamOf(2, "phc_h", "Harbour", map[int]string{
		3: `{"id":3,"name":"Readers","is_static":false,"filters":{"properties":{"type":"AND","values":[{"type":"OR","values":[
			{"key":"country","type":"person","value":"GB","operator":"exact"},{"key":"vip","type":"person","operator":"is_set","value":"is_set"}]},
			{"type":"AND","values":[{"key":"email","type":"person","value":"@x","operator":"icontains","negation":true}]}]}}}`,
		4: `{"id":4,"name":"By hand","is_static":true,"filters":{}}`,
	},
		`{"key":"plain","name":"Half","filters":{"groups":[{"properties":[],"rollout_percentage":50}],"payloads":{"true":"{\"a\":1}"}}}`,
		`{"key":"lot","filters":{"groups":[{"properties":[{"key":"plan","type":"person","value":["pro","team"],"operator":"exact"},
			{"key":"age","type":"person","value":"25","operator":"lt"}],"rollout_percentage":12.5,"variant":"red"},
			{"properties":[],"rollout_percentage":100,"aggregation_group_type_index":0}],
			"multivariate":{"variants":[{"key":"red","rollout_percentage":30},{"key":"blue","rollout_percentage":70}]},
			"payloads":{"red":"\"#f00\""},"holdout":{"id":9,"exclusion_percentage":5},"early_exit":true}}`,
		`{"key":"cohorts","filters":{"groups":[{"properties":[{"key":"id","type":"cohort","value":3,"operator":"in"},
			{"key":"id","type":"cohort","value":4,"operator":"not_in"},{"key":"1","type":"flag","value":true,"operator":"flag_evaluates_to"}],"rollout_percentage":100}]}}`,
		`{"key":"broken","filters":{"groups":[{"properties":[],"rollout_percentage":"50"}]}}`,
		`{"key":"garbage","filters":[1]}`,
		`{"key":"sealed","has_encrypted_payloads":true,"filters":{"groups":[],"payloads":{"true":"gAAAciphertext"}}}`,
		`{"key":"old","rollout_percentage":30,"filters":{"properties":[{"key":"email","value":"@n","operator":"icontains"}]}}`,
		`{"key":"`+hostileJSON()+`","name":"`+hostileJSON()+`","filters":{"groups":[{"properties":[{"key":"`+hostileJSON()+`","type":"person","value":"`+
			hostileJSON()+`","operator":"`+hostileJSON()+`"}],"rollout_percentage":1}]}}`,
	)
}

func TestPageOfTeam(t *testing.T) {
	t.Parallel()
	s := &shelf{teams: map[string]*flagcache.Team{"phc_h": harbour(), "phc_e": teamOf(5, "phc_e", "", nil)}}
	_, text := visit(t, s, "GET", "/team?token=phc_h", nil)
	contains(t, text, "<h1>Harbour</h1>", "8 active, 3 not readable", `href="/team/flag?id=1&amp;token=phc_h">plain</a>`, "Half", "1 condition", "lot", "2 conditions, 2 variants",
		"broken", "not readable", "&lt;script&gt;")
	_, text = visit(t, s, "GET", "/team?token=phc_h&q=BROK", nil)
	contains(t, text, "broken")
	if strings.Contains(text, ">plain<") {
		t.Error("a search for brok finds plain")
	}
	_, text = visit(t, s, "GET", "/team?token=phc_h&q=nothing", nil)
	contains(t, text, "No flag matches “nothing”")
	_, text = visit(t, s, "GET", "/team?token=phc_e", nil)
	contains(t, text, "<h1>team 5</h1>", "no flags yet")
}

func TestPageOfFlag(t *testing.T) {
	t.Parallel()
	s := &shelf{teams: map[string]*flagcache.Team{"phc_h": harbour()}}
	for id, want := range map[int][]string{
		1: {"plain", "50 % of all persons", "Payload", "{&#34;a&#34;:1}"},
		2: {
			"Holdout 9 takes 5 % out", "also if its rollout says no", "12.5 % of all persons where", "<b>plan</b> is one of", "“pro”, “team”", "and", "<b>age</b> is less than", "“25”",
			"get the variant <b>red</b>", "100 % of all groups of type company", "<b>red</b>", "30 %", "#f00", "<b>blue</b>", "70 %",
		},
		3: {
			"is in cohort", "Readers (3)", "is not in cohort", "By hand (4)", `href="/team/flag?id=1&amp;token=phc_h">flag plain</a> is on`,
			"<b>Readers (3)</b>", "(country is “GB” or vip is set) and not (email contains “@x”)", "<b>By hand (4)</b>", "only PostHog&#39;s database knows",
		},
		4: {"This definition cannot be read", "rollout_percentage"},
		5: {"This definition cannot be read", "None that can be read", "[1]"},
		6: {"Its payloads are encrypted", "encrypted: only PostHog can read it"},
		7: {"30 % of all persons where", "<b>email</b> contains", "“@n”"},
		8: {"<h1>&lt;script&gt;"},
	} {
		status, text := visit(t, s, "GET", fmt.Sprintf("/team/flag?token=phc_h&id=%d", id), nil)
		contains(t, text, want...)
		if status != http.StatusOK || strings.Contains(text, "ciphertext") || strings.Contains(text, "\u202e") {
			t.Errorf("flag %d: status %d, or its payload is shown, or it turns the direction of text", id, status)
		}
	}
	if status, text := visit(t, s, "GET", "/team/flag?token=phc_h&id=99", nil); status != http.StatusNotFound {
		t.Errorf("a flag that does not exist: %d %s", status, text)
	}
}

func TestPageExplain(t *testing.T) {
	t.Parallel()
	s := &shelf{teams: map[string]*flagcache.Team{"phc_h": harbour(), "phc_e": teamOf(5, "phc_e", "", nil)}}
	const address = "/team/explain?token=phc_h"
	_, text := visit(t, s, "GET", address+"&flag=lot", nil)
	contains(t, text, `name="flag" value="lot"`, `<option value="plain">`)
	ask := func(wantStatus int, form url.Values, want ...string) {
		t.Helper()
		status, text := visit(t, s, "POST", address, form)
		if status != wantStatus {
			t.Errorf("%v: status %d, want %d", form, status, wantStatus)
		}
		contains(t, text, want...)
	}
	ask(422, url.Values{"distinct_id": {" "}}, `aria-invalid="true"`, "Who is it about?")
	ask(422, url.Values{"distinct_id": {hostile}, "person_properties": {`{"plan":`}}, "&lt;script&gt;", `{&#34;plan&#34;:`, "Not a JSON object: unexpected end")
	ask(422, url.Values{"distinct_id": {"u"}, "groups": {`["company"]`}}, "Not a JSON object")
	ask(422, url.Values{"distinct_id": {"u"}, "group_properties": {`{"company":1}`}}, `role="alert">`)
	ask(200, url.Values{"distinct_id": {hostile}}, "For &lt;script&gt;", "unknown", "Not known, and asked for:", `person property &#34;plan&#34; <small>(lot)`, "plain")
	ask(200, url.Values{"distinct_id": {"u7"}, "person_properties": {`{"plan":"free","age":20}`}, "groups": {`{"company":"acme"}`}, "flag": {"lot"}},
		"<details class=\"flag\" open>", "<b>lot</b>", "blue", "Matched condition set 2", "holdout of 5 %", "the lot: ", "given &#34;free&#34;", "false", "Its rules")
	ask(200, url.Values{"distinct_id": {"u"}, "flag": {"nope"}}, "No flag has the key “nope”")
	s.teams["phc_h"] = s.teams["phc_e"]
	ask(200, url.Values{"distinct_id": {"u"}}, "This team has no flags")
}

// However large a team, its pages stay small and say what they leave out.
func TestPageSizes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 5000)
	var flags []string
	for i := range 300 {
		flags = append(flags, fmt.Sprintf(`{"key":"flag-%d-%s","name":"%s","filters":{"groups":[{"properties":[{"key":"%s","type":"person","value":["%[3]s"],"operator":"exact"}]},
			{"properties":[{"key":"b","type":"person","value":"c","operator":"exact"}]}]}}`, i, long[:300], long[:1000], long[:900]))
	}
	var conditions []string
	for range 60 {
		conditions = append(conditions, `{"properties":[`+strings.TrimSuffix(strings.Repeat(fmt.Sprintf(`{"key":"a","type":"person","value":"%s","operator":"exact"},`, long[:100]), 50), ",")+`]}`)
	}
	flags = append(flags, `{"key":"vast","filters":{"groups":[`+strings.Join(conditions, ",")+`]}}`)
	s := &shelf{teams: map[string]*flagcache.Team{"phc_l": teamOf(2, "phc_l", long, nil, flags...)}}
	_, text := visit(t, s, "GET", "/team?token=phc_l", nil)
	contains(t, text, "100 of 301. A search finds the others.")
	_, text = visit(t, s, "GET", "/team/flag?token=phc_l&id=1", nil)
	contains(t, text, "…")
	_, text = visit(t, s, "GET", "/team/flag?token=phc_l&id=301", nil)
	contains(t, text, "and 21 more: see what is stored", "And 58 conditions more")
	_, text = visit(t, s, "POST", "/team/explain?token=phc_l", url.Values{"distinct_id": {"u"}})
	contains(t, text, "Ask for this flag alone", " more: name a flag")
	_, text = visit(t, s, "POST", "/team/explain?token=phc_l", url.Values{"distinct_id": {"u"}, "flag": {"vast"}})
	contains(t, text, "Not all steps fit here")
	for i := range 200 {
		token := fmt.Sprint("phc_", i, long[:200])
		s.teams[token] = teamOf(int64(i), token, long[:2000], nil)
	}
	_, text = visit(t, s, "GET", "/", nil)
	contains(t, text, "The 50 with most flags")
}
