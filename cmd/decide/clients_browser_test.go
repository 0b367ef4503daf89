package main

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// initPostHogJS starts posthog-js as a site does, less what has nothing to do with flags, and returns once it has told the application its first flags.
const initPostHogJS = `
	globalThis.calls = []
	const next = async (n) => {
		for (let i = 0; i < 1000 && calls.length <= n; i++) await new Promise((resolve) => setTimeout(resolve, 5))
		if (calls.length <= n) throw new Error('onFeatureFlags was not called')
		return calls.at(-1)
	}
	const keys = ['always', 'never', 'by-plan', 'by-group', 'color', 'wobbly', 'leaves', 'arrives']
	globalThis.told = () => Object.fromEntries(keys.map((key) => [key, posthog.getFeatureFlag(key, { send_event: false })]))
	globalThis.reload = async () => {
		const n = calls.length
		posthog.reloadFeatureFlags()
		await next(n)
		return told()
	}
	posthog.init(token, {
		api_host: host, autocapture: false, capture_pageview: false, capture_pageleave: false, disable_session_recording: true, disable_surveys: true,
		advanced_disable_toolbar_metrics: true, feature_flag_request_timeout_ms: 30000, ...options,
	})
	posthog.onFeatureFlags((flags, variants, context) => calls.push({ flags, variants, errorsLoading: context.errorsLoading }))
`

func TestPostHogJS(t *testing.T) { // S23
	t.Parallel()
	s := newScene(t)
	p := newPage(t, s)
	first := do[map[string]any](t, p, "const options = {};"+initPostHogJS+"return await next(0)")
	want := map[string]any{
		"flags": []any{"leaves", "color", "always", "wobbly"}, "errorsLoading": false,
		"variants": map[string]any{"leaves": true, "color": "blue", "always": true, "wobbly": true},
	}
	if diff := cmp.Diff(want, first, sortedStrings); diff != "" {
		t.Errorf("on its first call onFeatureFlags gets (-want +got):\n%s", diff)
	}
	values := do[told](t, p, "return told()")
	if _, ok := values["by-plan"]; ok || values["never"] != false {
		t.Errorf("a flag that was never computed, documented as undefined, is told as %v; one that is off as %v", values["by-plan"], values["never"])
	}
	if config := s.last(t, "/array/"+token+"/config.js"); config.Status != http.StatusOK {
		t.Errorf("config.js was answered %d", config.Status)
	}
	payload := do[map[string]any](t, p, "return posthog.getFeatureFlagPayload('color')")
	if diff := cmp.Diff(map[string]any{"hex": "#00f"}, payload); diff != "" {
		t.Errorf("the payload (-want +got):\n%s", diff)
	}
	request := s.last(t, "/flags/")
	request.wantSent(t, sent{method: http.MethodPost, query: "v=2", contentType: "text/plain", members: []string{
		"$device_id", "distinct_id", "groups", "person_properties", "sent_at", "timezone", "token",
	}})

	// Who logs in brings what the flags want to know.
	identified := do[told](t, p, `
		posthog.group('organization', 'acme', { tier: 'gold' })
		posthog.identify('u1', { plan: 'paid' })
		return await reload()`)
	if identified["by-plan"] != true || identified["by-group"] != true {
		t.Errorf("with properties the SDK tells %v", identified)
	}
	keeps(t, s, p, nil)
}

// A visitor comes back while nothing answers: the flags are those of the last visit.
func TestPostHogJSReturningVisitor(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p := newPage(t, s)
	before := do[told](t, p, "const options = {};"+initPostHogJS+"await next(0); return told()")
	s.to(s.cold)
	p.open(t, s)
	n := len(s.seen("/flags/"))
	after := do[told](t, p, "const options = {};"+initPostHogJS+"return told()")
	s.await(t, "/flags/", n+1)
	for _, when := range []string{"before an answer", "after 503"} {
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%s the SDK tells something else (-before +after):\n%s", when, diff)
		}
		after = do[told](t, p, "return await reload()")
	}
	s.wantStatus(t, http.StatusServiceUnavailable)
	if _, ok := before["wobbly"]; !ok {
		t.Errorf("nothing was told before: %v", before)
	}
}

// A bundled SDK may not load scripts: it asks for the configuration as JSON.
func TestPostHogJSWithoutScripts(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p := newPage(t, s)
	values := do[told](t, p, "const options = { disable_external_dependency_loading: true };"+initPostHogJS+"await next(0); return told()")
	if values["color"] != "blue" {
		t.Errorf("the SDK tells %v", values)
	}
	if config := s.await(t, "/array/"+token+"/config", 1); config.Status != http.StatusOK || config.Method != http.MethodGet {
		t.Errorf("the configuration was asked for with %s and answered %d", config.Method, config.Status)
	}
}

// Who logs in while nothing answers is the visitor from before all the same, once it does: the SDK goes on sending the earlier identifier.
func TestPostHogJSLoginDuringOutage(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p := newPage(t, s)
	do[any](t, p, "const options = {};"+initPostHogJS+"await next(0)")
	anonymous := s.last(t, "/flags/").Body["distinct_id"]
	s.to(s.cold)
	do[any](t, p, "posthog.identify('u1'); await reload()")
	s.wantStatus(t, http.StatusServiceUnavailable)
	s.to(s.warm)
	do[any](t, p, "await reload()")
	s.wantStatus(t, http.StatusOK)
	if body := s.last(t, "/flags/").Body; body["distinct_id"] != "u1" || body["$anon_distinct_id"] != anonymous {
		t.Errorf("back in health the SDK asks for %v, who was %v, want u1, who was %v", body["distinct_id"], body["$anon_distinct_id"], anonymous)
	}
}
