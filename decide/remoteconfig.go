package decide

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/everflag/everflag/internal/flagcache"
)

// remoteConfig answers /array/<token>/config and config.js, which browsers load before they ask for flags.
func (h *Handler) remoteConfig(x *exchange, token string) *apiError {
	if !x.allow(http.MethodGet) {
		return errMethod
	}
	program, e := h.program(x, token)
	if e != nil {
		return e
	}
	v, e := h.view(x, program, token)
	if e != nil {
		return e
	}
	x.header["Cache-Control"] = []string{"no-cache"} // a shared cache would hide X-Everflag-Version
	name := flagcache.AppendString(nil, []byte(token))
	config := append([]byte(`{"token":`), name...)
	config = append(config, `,"hasFeatureFlags":true,`...)
	config = append(v.appendConfig(config, x.r.Header), '}')
	if x.to == endpointConfig {
		x.json()
		x.out = append(x.out, config...)
		return nil
	}
	x.header["Content-Type"] = contentScript
	x.out = append(x.out, "(function() {\n  window._POSTHOG_REMOTE_CONFIG = window._POSTHOG_REMOTE_CONFIG || {};\n  window._POSTHOG_REMOTE_CONFIG["...)
	x.out = appendScript(x.out, name)
	x.out = append(x.out, "] = {\n    config: "...)
	x.out = appendScript(x.out, config)
	x.out = append(x.out, ",\n    siteApps: []\n  }\n})();\n"...)
	return nil
}

// appendScript appends JSON so that it may stand in a script, and a script in a page.
func appendScript(dst, jsonText []byte) []byte {
	var out bytes.Buffer
	json.HTMLEscape(&out, jsonText)
	return append(dst, out.Bytes()...)
}

// appendConfig appends the configuration's members.
func (v *view) appendConfig(dst []byte, page http.Header) []byte {
	dst = append(append(dst, v.config...), `,"sessionRecording":`...)
	if len(v.recordingDomains) > 0 && !isPermittedPage(v.recordingDomains, page) {
		return append(dst, "false"...)
	}
	return append(dst, v.recording...)
}

// appendTeamConfig appends the members that the team's columns settle. What other tables settle (siteApps, surveys and newer products) is left out: SDKs then
// use their defaults, whereas a wrong false switches the product off. So does hasFeatureFlags false, which therefore never occurs.
func appendTeamConfig(dst []byte, team columns) []byte {
	settings := struct {
		SupportedCompression    []string        `json:"supportedCompression"`
		Config                  map[string]bool `json:"config"`
		ToolbarParams           struct{}        `json:"toolbarParams"`
		IsAuthenticated         bool            `json:"isAuthenticated"`
		Analytics               endpointMember  `json:"analytics"`
		ElementsChainAsString   bool            `json:"elementsChainAsString"`
		DefaultIdentifiedOnly   bool            `json:"defaultIdentifiedOnly"`
		AutocaptureOptOut       bool            `json:"autocapture_opt_out"`
		AutocaptureExceptions   any             `json:"autocaptureExceptions"`
		CapturePerformance      any             `json:"capturePerformance"`
		Heatmaps                bool            `json:"heatmaps"`
		CaptureDeadClicks       bool            `json:"captureDeadClicks"`
		FlagsPersistenceDefault bool            `json:"flagsPersistenceDefault"`
	}{
		SupportedCompression: []string{"gzip", "gzip-js"}, Config: map[string]bool{"enable_collect_everything": true},
		Analytics: endpointMember{"/i/v0/e/"}, ElementsChainAsString: true, DefaultIdentifiedOnly: true,
		AutocaptureOptOut: team.truth("autocapture_opt_out"), AutocaptureExceptions: false, CapturePerformance: false,
		Heatmaps: team.truth("heatmaps_opt_in"), CaptureDeadClicks: team.truth("capture_dead_clicks"),
		FlagsPersistenceDefault: team.truth("flags_persistence_default"),
	}
	if team.truth("autocapture_exceptions_opt_in") {
		settings.AutocaptureExceptions = endpointMember{"/e/"}
	}
	if timing, vitals := team.truth("capture_performance_opt_in"), team.truth("autocapture_web_vitals_opt_in"); timing || vitals {
		settings.CapturePerformance = map[string]any{
			"network_timing": timing, "web_vitals": vitals, "web_vitals_allowed_metrics": team.raw("autocapture_web_vitals_allowed_metrics"),
		}
	}
	text, err := json.Marshal(settings)
	if err != nil { // a json column that is not JSON
		return append(dst, `"supportedCompression":["gzip","gzip-js"]`...)
	}
	return append(dst, text[1:len(text)-1]...)
}

type endpointMember struct {
	Endpoint string `json:"endpoint"`
}

// sessionRecording is the value of sessionRecording, and the pages that it is limited to.
func sessionRecording(team columns) (value []byte, domains []string) {
	off := []byte("false")
	if !team.truth("session_recording_opt_in") {
		return off, nil
	}
	urls, errURLs := jsonList(team, "session_recording_url_trigger_config")
	blocked, errBlocked := jsonList(team, "session_recording_url_blocklist_config")
	events, errEvents := team.list("session_recording_event_trigger_config")
	permitted, errPermitted := team.list("recording_domains")
	if errURLs != nil || errBlocked != nil || errEvents != nil || errPermitted != nil {
		return off, nil // what limits the recording cannot be read: do not record more than is wanted
	}
	recording := map[string]any{
		"endpoint": "/s/", "consoleLogRecordingEnabled": team.truth("capture_console_log_opt_in"), "recorderVersion": "v2",
		"sampleRate": sampleRate(team), "minimumDurationMilliseconds": orNull(team, "session_recording_minimum_duration_milliseconds"),
		"linkedFlag": linkedFlag(team), "networkPayloadCapture": orNull(team, "session_recording_network_payload_capture_config"),
		"masking": orNull(team, "session_recording_masking_config"), "urlTriggers": urls, "urlBlocklist": blocked, "eventTriggers": events,
		"triggerMatchType": team.raw("session_recording_trigger_match_type_config"), "scriptConfig": nil,
	}
	var replay struct {
		RecordCanvas bool `json:"record_canvas"`
	}
	if raw := team["session_replay_config"]; len(raw) > 0 && raw[0] == '{' && json.Unmarshal(raw, &replay) == nil {
		recording["recordCanvas"], recording["canvasFps"], recording["canvasQuality"] = replay.RecordCanvas, any(nil), any(nil)
		if replay.RecordCanvas {
			recording["canvasFps"], recording["canvasQuality"] = 3, "0.4"
		}
	}
	value, err := json.Marshal(recording)
	if err != nil {
		return off, nil
	}
	for _, domain := range permitted {
		if domain != nil {
			domains = append(domains, *domain)
		}
	}
	return value, domains
}

// sampleRate is null where everything is recorded, as PostHog has it.
func sampleRate(team columns) any {
	if rate := team.text("session_recording_sample_rate"); rate != "" && rate != "1.00" {
		return rate
	}
	return nil
}

// orNull is the column, or null if its value is one that Python takes for false.
func orNull(team columns, name string) json.RawMessage {
	switch raw := team.raw(name); string(raw) {
	case "0", "{}", "[]", `""`, "false":
		return json.RawMessage("null")
	default:
		return raw
	}
}

// linkedFlag is the flag that recording depends on: its key, or key and variant.
func linkedFlag(team columns) any {
	var linked struct {
		Key     *string `json:"key"`
		Variant *string `json:"variant"`
	}
	if raw := team["session_recording_linked_flag"]; len(raw) == 0 || json.Unmarshal(raw, &linked) != nil {
		return nil
	}
	if linked.Variant != nil {
		return map[string]any{"flag": linked.Key, "variant": linked.Variant}
	}
	return linked.Key
}

// jsonList is an array column whose elements are JSON.
func jsonList(team columns, name string) ([]json.RawMessage, error) {
	elements, err := team.list(name)
	list := make([]json.RawMessage, 0, len(elements))
	for _, e := range elements {
		if e != nil {
			list = append(list, json.RawMessage(*e))
		}
	}
	return list, err
}

// mobileAgents are the SDKs that record without being on a page.
var mobileAgents = []string{"posthog-android", "posthog-ios", "posthog-react-native", "posthog-flutter"}

// isPermittedPage reports whether the request comes from one of the pages that recording is limited to.
func isPermittedPage(domains []string, page http.Header) bool {
	return containsAny(page.Get("User-Agent"), mobileAgents) || matchesDomain(domains, page.Get("Origin")) || matchesDomain(domains, page.Get("Referer"))
}

func matchesDomain(domains []string, address string) bool {
	host := hostOf(address)
	if host == "" {
		return false
	}
	for _, domain := range domains {
		before, after, wild := strings.Cut(hostOf(domain), "*")
		switch {
		case !wild && before == host && host != "":
			return true
		case wild && len(host) >= len(before)+len(after) && strings.HasPrefix(host, before) && strings.HasSuffix(host, after):
			return true
		}
	}
	return false
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
