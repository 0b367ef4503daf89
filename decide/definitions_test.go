package decide

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

func digestOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// secretTeam is the team of phc_test with the secret keys phs_test and phs_backup.
func secretTeam(t testing.TB, flags ...string) *flagcache.Team {
	members := fmt.Sprintf(`"secret_api_token":%q,"secret_api_token_backup":%q`, digestOf("phs_test"), digestOf("phs_backup"))
	return newTeam(t, "phc_test", members, flags...)
}

func definitionsHandler(t testing.TB, cfg Config, team *flagcache.Team) (*Handler, *fakeSource) {
	t.Helper()
	source := newFakeSource(cfg.Rules)
	source.put("phc_test", team)
	h, _ := newHandler(t, cfg, source)
	return h, source
}

func getDefinitions(h http.Handler, query, key string, headers ...string) *httptest.ResponseRecorder {
	return call(h, "GET", "/flags/definitions?token=phc_test"+query, "", append(headers, "Authorization", "Bearer "+key)...)
}

func TestDefinitionsCredentials(t *testing.T) {
	h, _ := definitionsHandler(t, Config{}, secretTeam(t, everyone("on")))
	for key, want := range map[string]int{"phs_test": 200, "phs_backup": 200, "phs_other": 401, "phx_any": 401, "": 401, digestOf("phs_test"): 401} {
		if w := getDefinitions(h, "", key); w.Code != want {
			t.Errorf("key %q: got %d, want %d", key, w.Code, want)
		}
	}
	if w := call(h, "GET", "/flags/definitions", "", "Authorization", "Bearer phs_test"); w.Code != http.StatusUnauthorized {
		t.Errorf("no token: got %d", w.Code)
	}
	personal := jsonOf(t, getDefinitions(h, "", "phx_any"))
	if hint, _ := personal["hint"].(string); !strings.Contains(hint, "project secret key") {
		t.Errorf("personal key: got %v", personal)
	}
}

// A rotated secret key opens nothing from the version on that rotates it; the configuration follows, too.
func TestRotatedSecret(t *testing.T) {
	h, source := definitionsHandler(t, Config{}, secretTeam(t, everyone("on")))
	before := getDefinitions(h, "", "phs_test").Code
	rotated := newTeam(t, "phc_test", fmt.Sprintf(`"secret_api_token":%q,"heatmaps_opt_in":true`, digestOf("phs_new")), everyone("on"))
	rotated.Version = "0000000000000001:0000000000000ABD"
	source.put("phc_test", rotated)
	if old, renewed := getDefinitions(h, "", "phs_test").Code, getDefinitions(h, "", "phs_new").Code; before != 200 || old != 401 || renewed != 200 {
		t.Errorf("old key got %d and then %d, new key %d", before, old, renewed)
	}
	if got := jsonOf(t, call(h, "GET", "/array/phc_test/config", "")); got["heatmaps"] != true {
		t.Errorf("config: got %v", got)
	}
}

// The 2023 schema has no secret keys: a file does.
func TestDefinitionKeysFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	text := "# comment\n\nphc_test " + digestOf("phx_one") + "\nphc_test\t" + digestOf("phx_two") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := ReadDefinitionKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	h, _ := definitionsHandler(t, Config{Rules: eval.Rules2023, DefinitionKeys: keys}, newTeam(t, "phc_test", "", everyone("on"), everyone("off")+`,"active":false`))
	for key, want := range map[string]int{"phx_one": 200, "phx_two": 200, "phx_three": 401} {
		if w := getDefinitions(h, "", key); w.Code != want {
			t.Errorf("key %q: got %d, want %d", key, w.Code, want)
		}
	}
	w := call(h, "GET", "/api/feature_flag/local_evaluation/?token=phc_test&personal_api_key=phx_one", "")
	if flags := jsonOf(t, w)["flags"].([]any); len(flags) != 1 {
		t.Errorf("got %d flags, want the active one", len(flags))
	}
	for _, bad := range []string{"phc_test", "phc_test phx_clear", "phc_test " + digestOf("x") + " more"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadDefinitionKeys(path); err == nil || strings.Contains(err.Error(), "phx_clear") {
			t.Errorf("line %q: got error %v", bad, err)
		}
	}
}

// ETag, 304, HEAD, gzip, rendered once per version: S42, S58.
func TestDefinitionsCaching(t *testing.T) {
	h, source := definitionsHandler(t, Config{}, secretTeam(t, everyone("on")))
	full := getDefinitions(h, "", "phs_test")
	tag := full.Header().Get("ETag")
	if len(tag) != len(`W/"0123456789abcdef"`) || full.Header().Get("Cache-Control") != "private, must-revalidate" {
		t.Fatalf("got headers %v", full.Header())
	}
	for _, have := range []string{tag, strings.TrimPrefix(tag, "W/"), strings.Trim(tag, `W/"`)} {
		w := getDefinitions(h, "", "phs_test", "If-None-Match", have)
		if w.Code != http.StatusNotModified || w.Body.Len() != 0 || w.Header().Get("ETag") != tag {
			t.Errorf("If-None-Match %s: got %d, %d bytes", have, w.Code, w.Body.Len())
		}
	}
	if w := getDefinitions(h, "", "phs_test", "If-None-Match", `W/"0000000000000000"`); w.Code != http.StatusOK {
		t.Errorf("other tag: got %d", w.Code)
	}
	head := call(h, "HEAD", "/flags/definitions?token=phc_test", "", "Authorization", "Bearer phs_test")
	if head.Code != 200 || head.Body.Len() != 0 || head.Header().Get("Content-Length") != fmt.Sprint(full.Body.Len()) {
		t.Errorf("HEAD: got %d, %d bytes, headers %v", head.Code, head.Body.Len(), head.Header())
	}
	packed := getDefinitions(h, "", "phs_test", "Accept-Encoding", "gzip")
	reader, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(reader); err != nil || !bytes.Equal(text, full.Body.Bytes()) {
		t.Errorf("gzip: %v, got %s", err, text)
	}
	first, _ := h.feeds.get("phc_test")
	getDefinitions(h, "", "phs_test")
	if again, _ := h.feeds.get("phc_test"); again != first {
		t.Error("rendered twice for one version")
	}
	changed := secretTeam(t, everyone("other"))
	changed.Version = "0000000000000001:0000000000000ABD"
	source.put("phc_test", changed)
	w := getDefinitions(h, "", "phs_test", "If-None-Match", tag)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"other"`) || w.Header().Get("X-Everflag-Version") != changed.Version {
		t.Errorf("after a change: got %d %s", w.Code, w.Body)
	}
}

func TestProtocolETags(t *testing.T) {
	for _, c := range readProtocol(t).ETags {
		h, want := http.Header{}, ""
		if c.Header != nil {
			h.Set("If-None-Match", *c.Header)
		}
		if c.Want != nil {
			want = *c.Want
		}
		if got := etagOf(h); got != want {
			t.Errorf("%v: got %q, want %q", h, got, want)
		}
	}
}

// feedOf renders the team's feed.
func feedOf(t *testing.T, team *flagcache.Team, sendCohorts bool) map[string]any {
	t.Helper()
	f, err := renderFeed(team, sendCohorts, eval.RulesCurrent)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(f.raw, &v); err != nil {
		t.Fatalf("feed %s: %v", f.raw, err)
	}
	return v
}

// feedFlags are the feed's flags by key.
func feedFlags(feed map[string]any) map[string]map[string]any {
	flags := map[string]map[string]any{}
	for _, f := range feed["flags"].([]any) {
		flag := f.(map[string]any)
		flags[flag["key"].(string)] = flag
	}
	return flags
}

func TestFeedMembers(t *testing.T) {
	team := newTeam(t, "phc_test", "",
		everyone("one")+`,"name":"<b>","version":7,"evaluation_runtime":"server","bucketing_identifier":"device_id"`,
		everyone("inactive")+`,"active":false`,
		everyone("survey-targeting-1"),
		`"key":"legacy","filters":{"properties":[{"key":"a","value":"b"}]},"rollout_percentage":30`,
		`"key":"empty","filters":{}`,
		`"key":"secret","has_encrypted_payloads":true,"filters":{"groups":[],"payloads":{"true":"ciphertext"}}`,
		`"key":"rules-2","filters":{"version":2,"groups":[]}`,
		`"key":"unreadable","filters":{"groups":"x"}`,
	)
	team.Config = []byte(`{"team_id":1,"property_matching_version":2,"minimal_flag_called_events":false}`)
	team.GroupTypes = []flagcache.Record{{Key: "1", JSON: []byte(`{"id":1,"group_type":"organization","group_type_index":0}`)}}
	team.Contexts = []flagcache.Record{{Key: "c1", JSON: []byte(`{"id":"c1","name":"checkout"}`)}}
	team.FlagContexts = []flagcache.Record{{Key: "f1", JSON: []byte(`{"id":"f1","feature_flag_id":1,"evaluation_context_id":"c1"}`)}}
	team.Experiments = []flagcache.Record{{Key: "9", JSON: []byte(`{"id":9,"feature_flag_id":1}`)}}
	feed := feedOf(t, team, true)
	flags := feedFlags(feed)
	delete(flags["one"], "filters")
	want := map[string]any{
		"id": 1.0, "team_id": 1.0, "name": "<b>", "key": "one", "deleted": false, "active": true, "ensure_experience_continuity": false, "version": 7.0,
		"has_experiment": true, "evaluation_runtime": "server", "bucketing_identifier": "device_id", "evaluation_contexts": []any{"checkout"},
	}
	if diff := cmp.Diff(want, flags["one"]); diff != "" {
		t.Errorf("flag (-want +got):\n%s", diff)
	}
	for key, filters := range map[string]string{
		"legacy": `{"groups":[{"properties":[{"key":"a","value":"b"}],"rollout_percentage":30}]}`,
		"empty":  `{"groups":[]}`,
		"secret": `{"groups":[],"payloads":{"true":"\"********* (encrypted)\""}}`,
	} {
		var want any
		_ = json.Unmarshal([]byte(filters), &want)
		if diff := cmp.Diff(want, flags[key]["filters"]); diff != "" {
			t.Errorf("filters of %s (-want +got):\n%s", key, diff)
		}
	}
	for key, there := range map[string]bool{"inactive": true, "survey-targeting-1": false, "rules-2": false, "unreadable": false} { // S26
		if _, ok := flags[key]; ok != there {
			t.Errorf("flag %s: there %v, want %v", key, ok, there)
		}
	}
	if feed["property_matching_version"] != 2.0 || feed["minimal_flag_called_events"] != false || feed["group_type_mapping"].(map[string]any)["0"] != "organization" {
		t.Errorf("got %v", feed)
	}
}

// needs is a flag that depends on the flags with the ids.
func needs(key string, ids ...int) string {
	var properties []string
	for _, id := range ids {
		properties = append(properties, fmt.Sprintf(`{"key":"%d","type":"flag","operator":"flag_evaluates_to","value":true}`, id))
	}
	return fmt.Sprintf(`"key":%q,"filters":{"groups":[{"properties":[%s],"rollout_percentage":100}]}`, key, strings.Join(properties, ","))
}

func TestFeedDependencies(t *testing.T) {
	team := newTeam(t, "phc_test", "",
		everyone("a"), needs("b", 1), needs("c", 2, 1), needs("d", 99), needs("self", 5),
		needs("x", 7), needs("y", 6), needs("on-cycle", 6), `"key":"bad","filters":{"version":2}`, needs("on-bad", 9), needs("on-on-bad", 10))
	flags := feedFlags(feedOf(t, team, true))
	for key, want := range map[string]string{
		"b": "a:[a]", "c": "b:[a b] a:[a]", "d": "99:[]", "self": "self:[]", "x": "y:[]", "y": "x:[]", "on-cycle": "x:[]",
	} {
		var got []string
		for _, g := range flags[key]["filters"].(map[string]any)["groups"].([]any) {
			for _, p := range g.(map[string]any)["properties"].([]any) {
				property := p.(map[string]any)
				got = append(got, fmt.Sprintf("%v:%v", property["key"], property["dependency_chain"]))
			}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: got %s, want %s", key, text, want)
		}
	}
	for _, key := range []string{"bad", "on-bad", "on-on-bad"} {
		if _, ok := flags[key]; ok {
			t.Errorf("feed has %s, which depends on a flag that cannot be read", key)
		}
	}
}

// inCohort is a flag for a cohort.
func inCohort(key string, id int, more string) string {
	return fmt.Sprintf(`"key":%q,"filters":{"groups":[{"properties":[{"key":"id","type":"cohort","value":%d%s}],"rollout_percentage":40}]}`, key, id, more)
}

func TestFeedCohorts(t *testing.T) {
	const p, q = `{"key":"p","type":"person","operator":"exact","value":"1"}`, `{"key":"q","type":"person","operator":"exact","value":"2"}`
	team := newTeam(t, "phc_test", "",
		inCohort("and", 1, ""), inCohort("or", 2, ""), inCohort("nested", 3, ""), inCohort("not-in", 1, `,"operator":"not_in"`),
		inCohort("static", 4, ""), inCohort("deleted", 5, ""), inCohort("legacy", 6, ""), inCohort("negated", 7, ""), inCohort("exact", 1, `,"operator":"exact"`))
	for i, members := range []string{
		`"filters":{"properties":{"type":"OR","values":[{"type":"AND","values":[` + p + `,` + q + `]}]}}`,
		`"filters":{"properties":{"type":"OR","values":[{"type":"OR","values":[` + p + `,` + q + `]}]}}`,
		`"filters":{"properties":{"type":"OR","values":[{"type":"AND","values":[{"key":"id","type":"cohort","value":1}]}]}}`,
		`"is_static":true,"filters":{"properties":{"type":"OR","values":[` + p + `]}}`,
		`"deleted":true,"filters":{"properties":{"type":"OR","values":[` + p + `]}}`,
		`"groups":[{"properties":[` + p + `]}]`,
		`"filters":{"properties":{"type":"OR","values":[{"type":"AND","values":[{"key":"p","type":"person","operator":"exact","value":"1","negation":true}]}]}}`,
	} {
		id := fmt.Sprint(i + 1)
		team.Cohorts = append(team.Cohorts, flagcache.Record{Key: id, JSON: object(t, `{"id":`+id+`,"deleted":false,"is_static":false,"filters":null,"groups":[]}`, members)})
	}
	with := feedOf(t, team, true)
	var ids []string
	for _, id := range []string{"1", "2", "3", "4", "5", "6", "7"} {
		if _, ok := with["cohorts"].(map[string]any)[id]; ok {
			ids = append(ids, id)
		}
	}
	if got := strings.Join(ids, " "); got != "1 2 3 6 7" {
		t.Errorf("got cohorts %s", got)
	}
	without := feedOf(t, team, false)
	if n := len(without["cohorts"].(map[string]any)); n != 0 {
		t.Errorf("got %d cohorts unasked", n)
	}
	flags := feedFlags(without)
	for key, want := range map[string]string{
		"and": "p+q@40", "or": "p@40 q@40", "legacy": "p@40", "nested": "id@40", "not-in": "id@40", "static": "id@40", "deleted": "id@40", "negated": "id@40", "exact": "id@40",
	} {
		var got []string
		for _, g := range flags[key]["filters"].(map[string]any)["groups"].([]any) {
			group := g.(map[string]any)
			var keys []string
			for _, p := range group["properties"].([]any) {
				keys = append(keys, p.(map[string]any)["key"].(string))
			}
			got = append(got, fmt.Sprintf("%s@%v", strings.Join(keys, "+"), group["rollout_percentage"]))
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s expands to %s, want %s", key, text, want)
		}
	}
}

func TestDefinitionsRateLimit(t *testing.T) { // S42
	h, _ := definitionsHandler(t, Config{RateLimit: RateLimit{Mode: RateEnforce}}, secretTeam(t, everyone("on")))
	h.limits.definitions.burst = 1
	first := getDefinitions(h, "", "phs_test")
	if w := getDefinitions(h, "", "phs_test"); first.Code != 200 || w.Code != http.StatusTooManyRequests {
		t.Errorf("got %d, then %d", first.Code, w.Code)
	}
	if w := getDefinitions(h, "", "phs_test", "If-None-Match", first.Header().Get("ETag")); w.Code != http.StatusNotModified {
		t.Errorf("revalidation: got %d", w.Code)
	}
}
