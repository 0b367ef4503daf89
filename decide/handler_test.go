package decide

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

const anyone = `{"token":"phc_test","distinct_id":"u"}`

func TestFlagsV2(t *testing.T) { // S57
	h, _ := newTestHandler(t, Config{}, everyone("on"), plan("pro-only"))
	w := call(h, "POST", "/flags/?v=2", `{"token":"phc_test","distinct_id":"u","person_properties":{"plan":"free"}}`)
	got := jsonOf(t, w)
	if w.Code != http.StatusOK || got["errorsWhileComputingFlags"] != false {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	flags := got["flags"].(map[string]any)
	if flags["on"].(map[string]any)["enabled"] != true || flags["pro-only"].(map[string]any)["enabled"] != false {
		t.Errorf("got flags %v", flags)
	}
	if v := w.Header().Get("X-Everflag-Version"); v != testVersion {
		t.Errorf("got version %q, want %q", v, testVersion)
	}
	if ct, n := w.Header().Get("Content-Type"), w.Header().Get("Content-Length"); ct != "application/json" || n != fmt.Sprint(w.Body.Len()) {
		t.Errorf("got content type %q and length %q of %d bytes", ct, n, w.Body.Len())
	}
	if at, ok := got["evaluatedAt"].(float64); !ok || time.Since(time.UnixMilli(int64(at))).Abs() > time.Minute { // S25
		t.Errorf("got evaluatedAt %v", got["evaluatedAt"])
	}
	if id, ok := got["requestId"].(string); !ok || len(id) != 36 || id[14] != '4' {
		t.Errorf("got requestId %v", got["requestId"])
	}
	for _, absent := range []string{"quotaLimited", "minimalFlagCalledEvents", "supportedCompression"} { // S24
		if _, ok := got[absent]; ok {
			t.Errorf("answer has %s: %v", absent, got[absent])
		}
	}
}

// What is not known is neither on nor off: S21, S23.
func TestUnknownIsNeverOff(t *testing.T) {
	h, _ := newTestHandler(t, Config{}, everyone("on"), plan("pro-only"))
	v2 := jsonOf(t, call(h, "POST", "/flags/?v=2", anyone))
	flag := v2["flags"].(map[string]any)["pro-only"].(map[string]any)
	if v2["errorsWhileComputingFlags"] != true || flag["failed"] != true {
		t.Errorf("v2: got %v", v2)
	}
	v3 := jsonOf(t, call(h, "POST", "/decide/?v=3", anyone))
	values := v3["featureFlags"].(map[string]any)
	if _, there := values["pro-only"]; there || v3["errorsWhileComputingFlags"] != true || values["on"] != true {
		t.Errorf("v3: got %v", v3)
	}
}

func TestRequestID(t *testing.T) {
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	const id = "0190a9f2-51aa-7d50-a5b5-0c5c1f0c3b11"
	for given, want := range map[string]string{id: id, strings.ReplaceAll(id, "-", ""): id, strings.ToUpper(id): id, "not-a-uuid": ""} {
		got := jsonOf(t, call(h, "POST", "/flags/?v=2", anyone, "X-Request-ID", given))["requestId"]
		if want != "" && got != want || want == "" && got == given {
			t.Errorf("given %q: got %v", given, got)
		}
	}
}

// Unknown tokens: S59, S60. The same outage must never look like a bad key.
func TestUnknownToken(t *testing.T) { // S24
	h, source := newTestHandler(t, Config{}, everyone("on"))
	const body = `{"token":"phc_other","distinct_id":"u"}`
	requests := map[string]func() *httptest.ResponseRecorder{
		"flags":  func() *httptest.ResponseRecorder { return call(h, "POST", "/flags/?v=2", body) },
		"decide": func() *httptest.ResponseRecorder { return call(h, "POST", "/decide/?v=3", body) },
		"config": func() *httptest.ResponseRecorder { return call(h, "GET", "/array/phc_other/config", "") },
		"definitions": func() *httptest.ResponseRecorder {
			return call(h, "GET", "/flags/definitions?token=phc_other", "", "Authorization", "Bearer phs_x")
		},
		"ofrep": func() *httptest.ResponseRecorder {
			return call(h, "POST", "/ofrep/v1/evaluate/flags", `{"context":{"targetingKey":"u"}}`, "X-API-Key", "phc_other")
		},
	}
	for name, request := range requests {
		source.set(func() { source.unknown = Absent })
		if w := request(); w.Code != http.StatusUnauthorized || w.Header().Get("X-Everflag-Version") != source.position.Checkpoint {
			t.Errorf("%s, certainly absent: got %d, version %q", name, w.Code, w.Header().Get("X-Everflag-Version"))
		}
		source.set(func() { source.unknown = Unavailable })
		if w := request(); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s, cannot tell: got %d, Retry-After %q", name, w.Code, w.Header().Get("Retry-After"))
		}
	}
}

func TestStaleHeader(t *testing.T) { // S19, S25, S57
	h, source := newTestHandler(t, Config{StaleAfter: 30 * time.Second}, everyone("on"))
	for age, want := range map[time.Duration]string{0: "", 29 * time.Second: "", 30 * time.Second: "30", 90 * time.Minute: "5400"} {
		source.set(func() { source.position.Stale = age })
		w := call(h, "POST", "/flags/?v=2", anyone)
		if got := w.Header().Get("X-Everflag-Stale"); got != want || w.Code != http.StatusOK {
			t.Errorf("age %v: got %d, header %q, want %q", age, w.Code, got, want)
		}
	}
}

func TestMethods(t *testing.T) {
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	django, _ := newTestHandler(t, Config{Rules: eval.Rules2023}, everyone("on"))
	for _, c := range []struct {
		handler      http.Handler
		method, path string
		status       int
		body         string
	}{
		{h, "HEAD", "/flags/", 200, ""},
		{h, "OPTIONS", "/flags/", 204, ""},
		{h, "OPTIONS", "/flags/definitions", 204, ""},
		{h, "PUT", "/flags/", 405, "Method not allowed."},
		{h, "DELETE", "/decide/", 405, "Method not allowed."},
		{h, "POST", "/array/phc_test/config", 405, "Method not allowed."},
		{h, "POST", "/flags/definitions?token=phc_test", 405, "Method not allowed."},
		{h, "GET", "/array/phc_test/array.js", 404, "Not found."},
		{h, "GET", "/api/projects/@current/feature_flags/k/remote_config", 404, "Not found."},
		{h, "GET", "/", 404, "Not found."},
		{django, "OPTIONS", "/decide/", 200, `{"status":1}`},
		{django, "OPTIONS", "/flags/", 204, ""},
	} {
		w := call(c.handler, c.method, c.path, "", "Origin", "https://app.example")
		if w.Code != c.status || w.Body.String() != c.body {
			t.Errorf("%s %s: got %d %q, want %d %q", c.method, c.path, w.Code, w.Body, c.status, c.body)
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "https://app.example" || w.Header().Get("Access-Control-Allow-Credentials") != "true" {
			t.Errorf("%s %s: no CORS headers: %v", c.method, c.path, w.Header())
		}
		if c.status == 204 && w.Header().Get("Allow") != "GET, POST, OPTIONS, HEAD" {
			t.Errorf("%s %s: got Allow %q", c.method, c.path, w.Header().Get("Allow"))
		}
	}
}

// A GET names no user; its answer must not make a client forget what it knows.
func TestGet(t *testing.T) {
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	got := jsonOf(t, call(h, "GET", "/flags/?v=2", ""))
	if got["errorsWhileComputingFlags"] != true || len(got["flags"].(map[string]any)) != 0 || got["sessionRecording"] != false || got["isAuthenticated"] != false {
		t.Errorf("v2: got %v", got)
	}
	if got := jsonOf(t, call(h, "GET", "/flags/?v=1", "")); got["featureFlags"] == nil || got["errorsWhileComputingFlags"] != true {
		t.Errorf("v1: got %v", got)
	}
	django, _ := newTestHandler(t, Config{Rules: eval.Rules2023}, everyone("on"))
	if got, list := jsonOf(t, call(django, "GET", "/decide/?v=3", ""))["featureFlags"].([]any); !list || len(got) != 0 {
		t.Errorf("2023: got %v", got)
	}
}

// Browsers may read every answer: pitfall of 401, 404, 413, 503 and panics without headers.
func TestCORSOnEveryAnswer(t *testing.T) {
	h, source := newTestHandler(t, Config{}, everyone("on"))
	broken, _ := newHandler(t, Config{}, panickingSource{})
	source.set(func() { source.unknown = Unavailable })
	for name, w := range map[string]*httptest.ResponseRecorder{
		"ok":          call(h, "POST", "/flags/?v=2", anyone, "Origin", "https://a.example"),
		"no token":    call(h, "POST", "/flags/?v=2", "{}", "Origin", "https://a.example"),
		"undecodable": call(h, "POST", "/flags/?v=2", "{nope", "Origin", "https://a.example"),
		"unavailable": call(h, "POST", "/flags/?v=2", `{"token":"x","distinct_id":"u"}`, "Origin", "https://a.example"),
		"too large":   call(h, "POST", "/flags/?v=2", strings.Repeat(" ", maxWireBody+1), "Origin", "https://a.example"),
		"not found":   call(h, "GET", "/nothing", "", "Origin", "https://a.example"),
		"panic":       call(broken, "POST", "/flags/?v=2", anyone, "Origin", "https://a.example"),
	} {
		if got := w.Header().Get("Access-Control-Allow-Origin"); got != "https://a.example" {
			t.Errorf("%s (%d): got allowed origin %q", name, w.Code, got)
		}
		for _, exposed := range []string{"X-Everflag-Version", "X-Everflag-Stale", "X-PostHog-Rate-Limit-Warning"} {
			if !strings.Contains(w.Header().Get("Access-Control-Expose-Headers"), exposed) {
				t.Errorf("%s (%d): %s is not exposed", name, w.Code, exposed)
			}
		}
	}
	preflight := call(h, "OPTIONS", "/flags/", "", "Origin", "https://a.example", "Access-Control-Request-Headers", "x-custom, content-type")
	if got := preflight.Header().Get("Access-Control-Allow-Headers"); got != "x-custom, content-type" {
		t.Errorf("preflight: got allowed headers %q", got)
	}
}

type panickingSource struct{}

func (panickingSource) Program(token string) (*eval.Program, Lookup) { panic("secret of " + token) }
func (panickingSource) Records(string) (*flagcache.Team, Lookup)     { panic("no") }
func (panickingSource) Position() Position                           { return Position{} }

// A panic is one failed request, counted, and its line quotes nothing of the request.
func TestPanicIsContained(t *testing.T) { // S47
	core, logs := observer.New(zapcore.DebugLevel)
	metrics := NewMetrics(prometheus.NewRegistry())
	h := New(Config{}, panickingSource{}, zap.New(core), metrics)
	w := call(h, "POST", "/flags/?v=2", anyone)
	if w.Code != http.StatusInternalServerError {
		t.Errorf("got %d", w.Code)
	}
	if n := testutil.ToFloat64(metrics.panics); n != 1 {
		t.Errorf("counted %v panics", n)
	}
	if n := testutil.ToFloat64(metrics.inFlight); n != 0 || h.running.Load() != 0 {
		t.Errorf("%v requests in flight, %d slots held", n, h.running.Load())
	}
	if logs.Len() != 1 || strings.Contains(fmt.Sprint(logs.All()[0].ContextMap()["panic"]), "phc_test") {
		t.Errorf("got log %v", logs.All())
	}
}

// disable_flags: before everything that needs flags or an id. S36.
func TestDisableFlags(t *testing.T) {
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	got := jsonOf(t, call(h, "POST", "/flags/?v=2&config=true", `{"token":"phc_test","disable_flags":true}`))
	if len(got["flags"].(map[string]any)) != 0 || got["errorsWhileComputingFlags"] != false || got["supportedCompression"] == nil {
		t.Errorf("got %v", got)
	}
	django, _ := newTestHandler(t, Config{Rules: eval.Rules2023}, everyone("on"))
	for _, v := range []string{"1", "2", "3"} {
		got := jsonOf(t, call(django, "POST", "/decide/?v="+v, `{"token":"phc_test","disable_flags":true}`))
		if flags, ok := got["featureFlags"].(map[string]any); !ok || len(flags) != 0 {
			t.Errorf("2023 v%s: got %v", v, got["featureFlags"])
		}
	}
}

// Ids that older servers took: S34.
func TestDistinctIDs(t *testing.T) {
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	for id, status := range map[string]int{
		`"u"`: 200, `""`: 200, `17`: 200, `12.50`: 200, `true`: 200, `null`: 400, `{}`: 400, `["u"]`: 400,
	} {
		if w := call(h, "POST", "/flags/?v=2", `{"token":"phc_test","distinct_id":`+id+`}`); w.Code != status {
			t.Errorf("distinct_id %s: got %d, want %d", id, w.Code, status)
		}
	}
}

func TestDjangoDecide(t *testing.T) {
	h, _ := newTestHandler(t, Config{Rules: eval.Rules2023}, everyone("on"))
	got := jsonOf(t, call(h, "POST", "/decide/?v=3", `{"api_key":"phc_test","distinct_id":"u"}`))
	if got["featureFlags"].(map[string]any)["on"] != true || got["requestId"] != nil || got["supportedCompression"] == nil {
		t.Errorf("v3: got %v", got)
	}
	for query, list := range map[string]bool{"": true, "?v=1": true, "?v=abc": false, "?v=2": false} {
		if _, is := jsonOf(t, call(h, "POST", "/decide/"+query, `{"token":"phc_test","distinct_id":"u"}`))["featureFlags"].([]any); is != list {
			t.Errorf("%q: list %v, want %v", query, is, list)
		}
	}
	for name, body := range map[string]string{
		"list":           `[{"token":"phc_test","distinct_id":"u"}]`,
		"properties":     `{"properties":{"token":"phc_test"},"distinct_id":"u"}`,
		"groups as list": `{"token":"phc_test","distinct_id":"u","groups":[]}`,
		"person as text": `{"token":"phc_test","distinct_id":"u","person_properties":"x"}`,
	} {
		if w := call(h, "POST", "/decide/?v=3", body); w.Code != http.StatusOK {
			t.Errorf("%s: got %d %s", name, w.Code, w.Body)
		}
	}
	w := call(h, "POST", "/decide/?v=3", "undefined")
	if got := jsonOf(t, w); w.Code != 400 || got["code"] != "malformed_data" || got["type"] != "validation_error" {
		t.Errorf("undefined: got %d %s", w.Code, w.Body)
	}
}

func TestOriginalEndpoint(t *testing.T) {
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	got := jsonOf(t, call(h, "POST", "/flags/?v=1", anyone, "X-Original-Endpoint", "decide"))
	if _, list := got["featureFlags"].([]any); !list {
		t.Errorf("got %v", got)
	}
}

// Requests, definitions and swaps of the whole team at once: what is published is not changed, and no answer mixes two versions. S44, S45.
func TestConcurrentSwaps(t *testing.T) {
	t.Parallel()
	versions := []*flagcache.Team{secretTeam(t, everyone("a"), everyone("b")), secretTeam(t, everyone("c"), everyone("d"))}
	versions[1].Version = "0000000000000001:0000000000000ABD"
	h, source := definitionsHandler(t, Config{}, versions[0])
	stop := make(chan struct{})
	var swaps, requests sync.WaitGroup
	swaps.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				source.put("phc_test", versions[i%2])
			}
		}
	})
	for range 4 {
		requests.Go(func() {
			for range 300 {
				w := call(h, "POST", "/flags/?v=1&config=true", anyone)
				flags, _ := jsonOf(t, w)["featureFlags"].(map[string]any)
				first := w.Header().Get("X-Everflag-Version") == versions[0].Version
				if len(flags) != 2 || (flags["a"] == true && flags["b"] == true) != first || (flags["c"] == true && flags["d"] == true) == first {
					t.Errorf("version %s: got %v", w.Header().Get("X-Everflag-Version"), flags)
				}
				if w := getDefinitions(h, "&send_cohorts", "phs_test"); w.Code != http.StatusOK {
					t.Errorf("definitions: got %d", w.Code)
				}
			}
		})
	}
	requests.Wait()
	close(stop)
	swaps.Wait()
}

// What the request asks to see: survey flags, keys, contexts, the runtime named or detected.
func TestSelection(t *testing.T) {
	team := newTeam(t, "phc_test", "", everyone("all"), everyone("survey-targeting-1"), everyone("server")+`,"evaluation_runtime":"server"`,
		everyone("client")+`,"evaluation_runtime":"client"`, everyone("checkout"))
	team.Contexts = []flagcache.Record{{Key: "c1", JSON: []byte(`{"id":"c1","name":"checkout","team_id":1}`)}}
	team.FlagContexts = []flagcache.Record{{Key: "f1", JSON: []byte(`{"id":"f1","feature_flag_id":5,"evaluation_context_id":"c1"}`)}}
	source := newFakeSource(0)
	source.put("phc_test", team)
	h, _ := newHandler(t, Config{}, source)
	for _, c := range []struct{ query, members, agent, want string }{
		{"", "", "", "all checkout survey-targeting-1"},
		{"", "", "posthog-go/1.5.2", "all checkout server survey-targeting-1"},
		{"", "", "Mozilla/5.0", "all checkout client survey-targeting-1"},
		{"", `,"evaluation_runtime":"all"`, "", "all checkout client server survey-targeting-1"},
		{"", `,"evaluation_runtime":"client"`, "posthog-go/1.5.2", "all checkout client survey-targeting-1"},
		{"", `,"evaluation_runtime":"unheard-of"`, "posthog-go/1.5.2", "all checkout server survey-targeting-1"},
		{"", `,"flag_keys":["all","nothing"]`, "", "all"},
		{"", `,"flag_keys_to_evaluate":["checkout"]`, "", "checkout"},
		{"", `,"evaluation_contexts":["Checkout"]`, "", "all checkout survey-targeting-1"},
		{"", `,"evaluation_environments":["other"]`, "", "all survey-targeting-1"},
		{"&only_evaluate_survey_feature_flags=true", "", "", "survey-targeting-1"},
	} {
		got := jsonOf(t, call(h, "POST", "/flags/?v=2"+c.query, `{"token":"phc_test","distinct_id":"u"`+c.members+`}`, "User-Agent", c.agent))
		keys := slices.Sorted(maps.Keys(got["flags"].(map[string]any)))
		if text := strings.Join(keys, " "); text != c.want {
			t.Errorf("%s %s %s: got %s, want %s", c.query, c.members, c.agent, text, c.want)
		}
	}
}
