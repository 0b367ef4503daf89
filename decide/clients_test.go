package decide

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-feature/go-sdk-contrib/providers/ofrep"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/posthog/posthog-go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/everflag/everflag/decide/eval"
)

// consistency is testdata/consistency.json.
type consistency struct {
	Provenance   string           `json:"provenance"`
	Flags        []map[string]any `json:"flags"`
	Simple       string           `json:"simple"`
	Multivariate string           `json:"multivariate"`
}

// consistentVariants are the variants of the second flag, by the digits of consistency.Multivariate.
var consistentVariants = map[byte]any{
	'0': false, '1': "first-variant", '2': "second-variant", '3': "third-variant", '4': "fourth-variant", '5': "fifth-variant",
}

func consistentServer(t *testing.T) (*httptest.Server, consistency, *atomic.Int64) {
	t.Helper()
	var data consistency
	readTestdata(t, "consistency.json", &data)
	var flags []string
	for _, f := range data.Flags {
		text := string(marshal(f))
		flags = append(flags, text[1:len(text)-1])
	}
	h, _ := definitionsHandler(t, Config{}, secretTeam(t, flags...))
	var remote atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/flags/" {
			remote.Add(1)
		}
		if r.URL.Path == "/batch/" { // events are none of our business
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server, data, &remote
}

// quiet drops the client's log.
type quiet struct{}

func (quiet) Debugf(string, ...any) {}
func (quiet) Logf(string, ...any)   {}
func (quiet) Warnf(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}

func posthogClient(t *testing.T, server *httptest.Server, cfg posthog.Config) posthog.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	cfg.Endpoint, cfg.Logger, cfg.Transport = server.URL, quiet{}, transport
	client, err := posthog.NewWithConfig("phc_test", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("closing posthog-go: %v", err)
		}
		transport.CloseIdleConnections()
	})
	return client
}

// checkUsers asks the client for every user of the vectors.
func checkUsers(t *testing.T, client posthog.Client, data consistency, locally bool) {
	t.Helper()
	for i := range data.Simple { // one after the other: posthog-go 1.5.2 writes a map of its own without a lock
		id := fmt.Sprintf("distinct_id_%d", i)
		simple, variant := data.Simple[i] == '1', consistentVariants[data.Multivariate[i]]
		on, err := client.IsFeatureEnabled(posthog.FeatureFlagPayload{Key: "simple-flag", DistinctId: id, OnlyEvaluateLocally: locally})
		if err != nil || on != simple {
			t.Errorf("user %d: simple flag %v, %v; want %v", i, on, err, simple)
		}
		got, err := client.GetFeatureFlag(posthog.FeatureFlagPayload{Key: "multivariate-flag", DistinctId: id, OnlyEvaluateLocally: locally})
		if err != nil || got != variant {
			t.Errorf("user %d: multivariate flag %v, %v; want %v", i, got, err, variant)
		}
		all, err := client.GetAllFlags(posthog.FeatureFlagPayloadNoKey{DistinctId: id, OnlyEvaluateLocally: locally})
		if err != nil || all["simple-flag"] != simple || all["multivariate-flag"] != variant {
			t.Errorf("user %d: all flags %v, %v; want %v, %v", i, all, err, simple, variant)
		}
	}
}

// The official client agrees with the official expectations for 1,000 users, asking the server each time.
func TestPostHogGoRemote(t *testing.T) {
	t.Parallel()
	server, data, remote := consistentServer(t)
	checkUsers(t, posthogClient(t, server, posthog.Config{}), data, false)
	if n := remote.Load(); n != int64(3*len(data.Simple)) {
		t.Errorf("%d requests for %d users", n, len(data.Simple))
	}
}

// The official client evaluates our definitions itself and comes to the same values, without asking for flags.
func TestPostHogGoLocal(t *testing.T) {
	t.Parallel()
	server, data, remote := consistentServer(t)
	checkUsers(t, posthogClient(t, server, posthog.Config{PersonalApiKey: "phs_test"}), data, true)
	if n := remote.Load(); n != 0 {
		t.Errorf("%d requests for flags", n)
	}
}

// What posthog-go makes of partial answers, outages and bad tokens when it asks the server. It keeps nothing of its own, and takes a failed flag for off:
// docs/compatibility.md says so.
func TestPostHogGoTrouble(t *testing.T) {
	t.Parallel()
	h, source := definitionsHandler(t, Config{}, secretTeam(t, everyone("on"), plan("pro-only")))
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	client := posthogClient(t, server, posthog.Config{})
	ask := func(key string) (any, error) {
		return client.GetFeatureFlag(posthog.FeatureFlagPayload{Key: key, DistinctId: "u"})
	}
	if v, err := ask("on"); err != nil || v != true {
		t.Errorf("computed flag of a partial answer: %v, %v", v, err)
	}
	if v, err := ask("pro-only"); err != nil || v != false {
		t.Errorf("failed flag: %v, %v", v, err)
	}
	for _, lookup := range []Lookup{Unavailable, Absent} {
		source.set(func() {
			source.unknown = lookup
			source.programs, source.teams = nil, nil
		})
		if v, err := ask("on"); err == nil {
			t.Errorf("lookup %d: got %v without an error", lookup, v)
		}
	}
}

// posthog-go keeps its definitions when the key is refused or the server is in trouble.
func TestPostHogGoKeepsDefinitions(t *testing.T) {
	t.Parallel()
	h, source := definitionsHandler(t, Config{}, secretTeam(t, everyone("on")))
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	client := posthogClient(t, server, posthog.Config{PersonalApiKey: "phs_test"})
	isOn := func() any {
		t.Helper()
		v, err := client.GetFeatureFlag(posthog.FeatureFlagPayload{Key: "on", DistinctId: "u", OnlyEvaluateLocally: true})
		if err != nil {
			t.Errorf("flag: %v", err)
		}
		return v
	}
	if v := isOn(); v != true {
		t.Fatalf("at first: got %v", v)
	}
	source.set(func() {
		source.unknown = Unavailable
		source.programs, source.teams = nil, nil
	})
	if err := client.ReloadFeatureFlags(); err != nil {
		t.Fatal(err)
	}
	if v := isOn(); v != true {
		t.Errorf("after an outage: got %v", v)
	}
}

// The OpenFeature provider reads values, variants, errors and defaults as it should.
func TestOFREPProvider(t *testing.T) {
	t.Parallel()
	variants := `"key":"variant","filters":{"groups":[{"properties":[],"rollout_percentage":100}],"multivariate":{"variants":[{"key":"blue","rollout_percentage":100}]},"payloads":{"blue":"\"#00f\""}}`
	h, _ := newTestHandler(t, Config{}, everyone("on"), variants, plan("pro-only"), `"key":"off","filters":{"groups":[{"properties":[],"rollout_percentage":0}]}`)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	client := &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second}
	t.Cleanup(client.CloseIdleConnections)
	provider := ofrep.NewProvider(server.URL, ofrep.WithClient(client), ofrep.WithBearerToken("phc_test"))
	ctx := context.Background()
	user := func(properties ...string) openfeature.FlattenedContext {
		c := openfeature.FlattenedContext{"targetingKey": "u"}
		for i := 0; i < len(properties); i += 2 {
			c[properties[i]] = properties[i+1]
		}
		return c
	}
	if r := provider.BooleanEvaluation(ctx, "on", false, user()); !r.Value || r.Reason != openfeature.TargetingMatchReason {
		t.Errorf("on: %+v", r)
	}
	if r := provider.BooleanEvaluation(ctx, "off", true, user()); r.Value || r.Reason != openfeature.DefaultReason {
		t.Errorf("off: %+v", r)
	}
	if r := provider.StringEvaluation(ctx, "variant", "red", user()); r.Value != "blue" || r.Variant != "blue" || r.Reason != openfeature.SplitReason || r.FlagMetadata["payload"] != `"#00f"` {
		t.Errorf("variant: %+v", r)
	}
	if r := provider.BooleanEvaluation(ctx, "pro-only", true, user("plan", "free")); r.Value {
		t.Errorf("pro-only, free: %+v", r)
	}
	if r := provider.BooleanEvaluation(ctx, "pro-only", true, user()); !r.Value || r.Error() == nil { // unknown: the caller's default
		t.Errorf("pro-only, unknown: %+v", r)
	}
	if r := provider.BooleanEvaluation(ctx, "nothing", true, user()); !r.Value || r.ResolutionDetail().ErrorCode != openfeature.FlagNotFoundCode {
		t.Errorf("nothing: %+v", r)
	}
	if r := provider.BooleanEvaluation(ctx, "on", false, openfeature.FlattenedContext{}); r.Value || r.ResolutionDetail().ErrorCode != openfeature.TargetingKeyMissingCode {
		t.Errorf("no targeting key: %+v", r)
	}
}

// The tag of a bulk answer depends on the context: S37. All flags without asking: S38. No line in the log for what needs context: S39.
func TestOFREPBulk(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	source := newFakeSource(eval.RulesCurrent)
	source.put("phc_test", newTeam(t, "phc_test", "", everyone("on"), plan("pro-only")))
	h := New(Config{}, source, zap.New(core), NewMetrics(prometheus.NewRegistry()))
	bulk := func(context, tag string) *httptest.ResponseRecorder {
		return call(h, "POST", "/ofrep/v1/evaluate/flags", `{"context":`+context+`}`, "X-API-Key", "phc_test", "If-None-Match", tag)
	}
	pro, free := `{"targetingKey":"u","plan":"pro"}`, `{"targetingKey":"u","plan":"free"}`
	first := bulk(pro, "")
	tag := first.Header().Get("ETag")
	if n := len(jsonOf(t, first)["flags"].([]any)); first.Code != 200 || n != 2 || tag == "" {
		t.Fatalf("got %d, %d flags, tag %q", first.Code, n, tag)
	}
	if w := bulk(pro, tag); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("same context: got %d", w.Code)
	}
	if w := bulk(free, tag); w.Code != http.StatusOK || w.Header().Get("ETag") == tag {
		t.Errorf("other context: got %d, tag %q", w.Code, w.Header().Get("ETag"))
	}
	unknown := jsonOf(t, bulk(`{"targetingKey":"u"}`, ""))["flags"].([]any)
	if failed := unknown[1].(map[string]any); failed["errorCode"] != "GENERAL" || failed["value"] != nil {
		t.Errorf("unknown: got %v", failed)
	}
	if one := jsonOf(t, bulk(`{"targetingKey":"u","flags":["on"]}`, ""))["flags"].([]any); len(one) != 1 {
		t.Errorf("one asked for: got %v", one)
	}
	changed := newTeam(t, "phc_test", "", everyone("on"), everyone("pro-only"))
	source.put("phc_test", changed)
	if w := bulk(free, bulk(pro, "").Header().Get("ETag")); w.Code != http.StatusNotModified {
		t.Errorf("the flag is on for everyone now: got %d", w.Code)
	}
	source.set(func() { source.position.Stale = time.Hour }) // S19
	if got := jsonOf(t, bulk(pro, ""))["flags"].([]any)[0].(map[string]any)["reason"]; got != "STALE" {
		t.Errorf("stale: got reason %v", got)
	}
	if logs.Len() > 0 {
		t.Errorf("%d lines are logged, of level debug and above: %v", logs.Len(), logs.All())
	}
}

func TestOFREPErrors(t *testing.T) {
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	for _, c := range []struct {
		method, path, body, key string
		status                  int
		code                    string
	}{
		{"POST", "/on", `{"context":{"targetingKey":"u"}}`, "", 401, "GENERAL"},
		{"POST", "/on", `{"context":{"targetingKey":"u"}}`, "phc_no", 401, "GENERAL"},
		{"POST", "/on", `{"context":`, "phc_test", 400, "PARSE_ERROR"},
		{"POST", "/on", `{"context":{}}`, "phc_test", 400, "TARGETING_KEY_MISSING"},
		{"POST", "/on", ``, "phc_test", 400, "TARGETING_KEY_MISSING"},
		{"POST", "", `{"context":null}`, "phc_test", 400, "TARGETING_KEY_MISSING"},
		{"POST", "/no%2Fflag", `{"context":{"targetingKey":"u"}}`, "phc_test", 404, "FLAG_NOT_FOUND"},
		{"GET", "/on", ``, "phc_test", 405, "GENERAL"},
	} {
		w := call(h, c.method, "/ofrep/v1/evaluate/flags"+c.path, c.body, "X-API-Key", c.key)
		if got := jsonOf(t, w); w.Code != c.status || got["errorCode"] != c.code || got["errorDetails"] == "" {
			t.Errorf("%s %s %s: got %d %v, want %d %s", c.method, c.path, c.body, w.Code, got, c.status, c.code)
		}
	}
}
