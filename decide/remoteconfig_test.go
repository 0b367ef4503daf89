package decide

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const recordingTeam = `"session_recording_opt_in":true,"capture_console_log_opt_in":true,"session_recording_sample_rate":0.50,
	"session_recording_minimum_duration_milliseconds":2000,"session_recording_linked_flag":{"id":1,"key":"on","variant":"v"},
	"session_recording_url_trigger_config":"{\"{\\\"url\\\": \\\"a,b\\\"}\"}","session_recording_event_trigger_config":"{click,NULL,\"a \\\"b\\\"\"}",
	"session_replay_config":{"record_canvas":true},"recording_domains":"{https://app.example,https://*.wild.example}",
	"autocapture_opt_out":true,"capture_performance_opt_in":true,"autocapture_exceptions_opt_in":true,"heatmaps_opt_in":true`

func configHandler(t *testing.T, teamMembers string) *Handler {
	t.Helper()
	source := newFakeSource(0)
	source.put("phc_test", newTeam(t, "phc_test", teamMembers, everyone("on")))
	h, _ := newHandler(t, Config{}, source)
	return h
}

func TestRemoteConfig(t *testing.T) {
	h := configHandler(t, recordingTeam)
	got := jsonOf(t, call(h, "GET", "/array/phc_test/config", "", "Origin", "https://app.example"))
	want := map[string]any{
		"token": "phc_test", "hasFeatureFlags": true, "supportedCompression": []any{"gzip", "gzip-js"},
		"config": map[string]any{"enable_collect_everything": true}, "toolbarParams": map[string]any{}, "isAuthenticated": false,
		"analytics": map[string]any{"endpoint": "/i/v0/e/"}, "elementsChainAsString": true, "defaultIdentifiedOnly": true,
		"autocapture_opt_out": true, "autocaptureExceptions": map[string]any{"endpoint": "/e/"}, "heatmaps": true, "captureDeadClicks": false,
		"capturePerformance":      map[string]any{"network_timing": true, "web_vitals": false, "web_vitals_allowed_metrics": nil},
		"flagsPersistenceDefault": false,
		"sessionRecording": map[string]any{
			"endpoint": "/s/", "consoleLogRecordingEnabled": true, "recorderVersion": "v2", "sampleRate": "0.50", "minimumDurationMilliseconds": 2000.0,
			"linkedFlag": map[string]any{"flag": "on", "variant": "v"}, "networkPayloadCapture": nil, "masking": nil,
			"urlTriggers": []any{map[string]any{"url": "a,b"}}, "urlBlocklist": []any{}, "eventTriggers": []any{"click", nil, `a "b"`},
			"triggerMatchType": nil, "scriptConfig": nil, "recordCanvas": true, "canvasFps": 3.0, "canvasQuality": "0.4",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	for _, unknowable := range []string{"siteApps", "surveys"} {
		if _, ok := got[unknowable]; ok {
			t.Errorf("config claims to know %s", unknowable)
		}
	}
}

func TestRecordingDomains(t *testing.T) {
	h := configHandler(t, recordingTeam)
	for _, c := range []struct {
		header, value string
		on            bool
	}{
		{"Origin", "https://app.example", true},
		{"Origin", "http://app.example:8080", true},
		{"Origin", "https://x.wild.example", true},
		{"Origin", "https://wild.example.evil", false},
		{"Origin", "https://other.example", false},
		{"Referer", "https://app.example/page?q", true},
		{"User-Agent", "posthog-ios/3", true},
		{"X-Nothing", "x", false},
	} {
		_, on := jsonOf(t, call(h, "POST", "/flags/?v=2&config=true", anyone, c.header, c.value))["sessionRecording"].(map[string]any)
		if on != c.on {
			t.Errorf("%s %s: recording %v, want %v", c.header, c.value, on, c.on)
		}
	}
}

// Config of a team whose columns do not exist yet, or hold what cannot be read: nothing is recorded that should not be.
func TestConfigDefaults(t *testing.T) {
	for name, members := range map[string]string{
		"none":            "",
		"not opted in":    `"session_recording_opt_in":false,"session_recording_sample_rate":1.00`,
		"unreadable list": `"session_recording_opt_in":true,"recording_domains":"{{nested}}"`,
	} {
		got := jsonOf(t, call(configHandler(t, members), "GET", "/array/phc_test/config", ""))
		if got["sessionRecording"] != false || got["hasFeatureFlags"] != true || got["capturePerformance"] != false {
			t.Errorf("%s: got %v", name, got)
		}
	}
	sampled := configHandler(t, `"session_recording_opt_in":true,"session_recording_sample_rate":1.00,"session_recording_linked_flag":{"key":"on"}`)
	recording := jsonOf(t, call(sampled, "GET", "/array/phc_test/config", ""))["sessionRecording"].(map[string]any)
	if recording["sampleRate"] != nil || recording["linkedFlag"] != "on" {
		t.Errorf("got %v", recording)
	}
}

func TestConfigScript(t *testing.T) {
	plain := call(configHandler(t, ""), "GET", "/array/phc_test/config.js", "")
	body := plain.Body.String()
	if plain.Code != 200 || plain.Header().Get("Content-Type") != "application/javascript" {
		t.Fatalf("got %d %v", plain.Code, plain.Header())
	}
	for _, part := range []string{`window._POSTHOG_REMOTE_CONFIG["phc_test"] = {`, `"hasFeatureFlags":true`, "siteApps: []"} {
		if !strings.Contains(body, part) {
			t.Errorf("script lacks %s:\n%s", part, body)
		}
	}
	if got := string(appendScript(nil, []byte(`"</script>"`))); strings.Contains(got, "<") {
		t.Errorf("got %s", got)
	}
}

func TestMinimalFlagCalledEvents(t *testing.T) {
	source := newFakeSource(0)
	team := newTeam(t, "phc_test", "", everyone("on"))
	team.Config = []byte(`{"team_id":1,"minimal_flag_called_events":true}`)
	source.put("phc_test", team)
	h, _ := newHandler(t, Config{}, source)
	if got := jsonOf(t, call(h, "POST", "/flags/?v=2", anyone)); got["minimalFlagCalledEvents"] != true {
		t.Errorf("got %v", got)
	}
}

func TestParseArray(t *testing.T) {
	text := func(elements []*string) string {
		var out []string
		for _, e := range elements {
			if e == nil {
				out = append(out, "<null>")
			} else {
				out = append(out, *e)
			}
		}
		return strings.Join(out, "|")
	}
	for array, want := range map[string]string{
		`{}`: "", `{a}`: "a", `{a,b}`: "a|b", `{NULL,"NULL"}`: "<null>|NULL", `{"a\"b","c\\d",""}`: `a"b|c\d|`, `{"{\"a\": 1}"}`: `{"a": 1}`,
	} {
		if got, err := parseArray(array); err != nil || text(got) != want {
			t.Errorf("%s: got %q, %v; want %q", array, text(got), err, want)
		}
	}
	for _, array := range []string{``, `a`, `{`, `{a`, `{a,`, `{a,}`, `{,}`, `{"a`, `{"a\`, `{"a"b}`, `{{a}}`, `{a}b`, `[0:1]={a,b}`} {
		if got, err := parseArray(array); err == nil {
			t.Errorf("%s: got %q, want an error", array, text(got))
		}
	}
}
