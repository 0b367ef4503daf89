package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// newPostHogLite starts posthog-js-lite: the core that PostHog's React Native SDK is made of, with a browser's storage.
const newPostHogLite = `
	const { PostHog } = await import('posthog-js-lite')
	globalThis.sdk = new PostHog(token, { host, preloadFeatureFlags: false, fetchRetryDelay: 10, featureFlagsRequestTimeoutMs: 30000 })
	const keys = ['always', 'never', 'by-plan', 'by-group', 'color', 'wobbly', 'leaves', 'arrives']
	globalThis.told = () => Object.fromEntries(keys.map((key) => [key, sdk.getFeatureFlag(key)]))
	globalThis.reload = async () => {
		await sdk.reloadFeatureFlagsAsync()
		return told()
	}
`

func TestPostHogLite(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p := newPage(t, s)
	if values := do[told](t, p, newPostHogLite+"return await reload()"); values["by-plan"] != false || values["arrives"] != false || values["color"] != "blue" {
		t.Errorf("flags that were never computed, and such that do not exist, are documented as false: %v", values)
	}
	do[any](t, p, `
		sdk.setPersonPropertiesForFlags({ plan: 'paid' }, false)
		sdk.setGroupPropertiesForFlags({ organization: { tier: 'gold' } })
		sdk.group('organization', 'acme')`)
	keeps(t, s, p, false)
	s.last(t, "/flags/").wantSent(t, sent{
		method: http.MethodPost, query: "v=2", contentType: "application/json", members: []string{
			"$anon_distinct_id", "distinct_id", "group_properties", "groups", "person_properties", "token",
		},
	})

	// The application is started again, with nothing that answers.
	s.to(s.cold)
	p.open(t, s)
	again := do[told](t, p, newPostHogLite+"return await reload()")
	if again["color"] != "red" || again["arrives"] != true || again["wobbly"] != false {
		t.Errorf("started again with decide out of order the SDK tells %v", again)
	}
	s.wantStatus(t, http.StatusServiceUnavailable)
}

// replay is a conversation as the SDKs for devices have it, from PostHog's documentation and sources: replayed, not observed.
type replay struct {
	name, path, userAgent, body string
	gzip                        bool
	config                      bool // whether the answer carries the configuration, too
	legacy                      bool // whether flags stand in featureFlags
}

var replays = []replay{
	{
		name: "posthog-ios", path: "/flags/?v=2&config=true", userAgent: "posthog-ios/3.35.0", gzip: true, config: true,
		body: `{"api_key":%q,"distinct_id":"u1","$anon_distinct_id":"anon-1","$groups":{"organization":"acme"},"person_properties":{"plan":"paid"},
			"group_properties":{"organization":{"tier":"gold"}},"timezone":"Europe/Berlin"}`,
	},
	{
		name: "posthog-android", path: "/flags/?v=2&config=true", userAgent: "posthog-android/3.25.0", gzip: true, config: true,
		body: `{"api_key":%q,"distinct_id":"u1","$anon_distinct_id":"anon-1","$groups":{"organization":"acme"},"person_properties":{"plan":"paid"},
			"group_properties":{"organization":{"tier":"gold"}}}`,
	},
	{
		name: "posthog-flutter on Android", path: "/flags/?v=2&config=true", userAgent: "posthog-flutter/5.9.0", config: true,
		body: `{"api_key":%q,"distinct_id":"u1","$anon_distinct_id":null,"$groups":{"organization":"acme"},"person_properties":{"plan":"paid"},
			"group_properties":{"organization":{"tier":"gold"}}}`,
	},
	{
		name: "posthog-ios of 2024", path: "/decide/?v=3", userAgent: "posthog-ios/3.15.0", gzip: true, config: true, legacy: true,
		body: `{"api_key":%q,"distinct_id":"u1","$anon_distinct_id":"anon-1","$groups":{"organization":"acme"},"person_properties":{"plan":"paid"},
			"group_properties":{"organization":{"tier":"gold"}}}`,
	},
	{
		name: "posthog-android of 2024", path: "/decide/?v=3", userAgent: "posthog-android/3.9.0", gzip: true, config: true, legacy: true,
		body: `{"api_key":%q,"distinct_id":"u1","$groups":{"organization":"acme"},"person_properties":{"plan":"paid"},
			"group_properties":{"organization":{"tier":"gold"}}}`,
	},
}

// Devices whose SDKs do not run here are answered what they can read: nothing that cannot be computed stands there as off.
func TestMobileReplayedNotObserved(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	want := told{"always": true, "never": false, "by-plan": true, "by-group": true, "color": "blue", "wobbly": true, "leaves": true}
	for _, r := range replays {
		status, answer := r.send(t, s)
		if status != http.StatusOK || answer["errorsWhileComputingFlags"] != false {
			t.Errorf("%s is answered %d, errorsWhileComputingFlags %v", r.name, status, answer["errorsWhileComputingFlags"])
		}
		if diff := cmp.Diff(want, r.told(answer)); diff != "" {
			t.Errorf("%s is told (-want +got):\n%s", r.name, diff)
		}
		if _, ok := answer["supportedCompression"]; ok != r.config {
			t.Errorf("%s: whether the answer carries the configuration is %v, want %v", r.name, ok, r.config)
		}
	}
	s.change(t, map[string]string{"wobbly": wobblyBad})
	delete(want, "wobbly")
	for _, r := range replays {
		status, answer := r.send(t, s)
		if status != http.StatusOK || answer["errorsWhileComputingFlags"] != true {
			t.Errorf("a partial answer for %s is %d, errorsWhileComputingFlags %v", r.name, status, answer["errorsWhileComputingFlags"])
		}
		if diff := cmp.Diff(want, r.told(answer)); diff != "" {
			t.Errorf("on a partial answer %s is told (-want +got):\n%s", r.name, diff)
		}
	}
	s.to(s.cold)
	for _, r := range replays {
		if status, _ := r.send(t, s); status != http.StatusServiceUnavailable {
			t.Errorf("without a cache %s is answered %d", r.name, status)
		}
	}
	s.to(s.warm)
	s.forget(t)
	for _, r := range replays {
		if status, _ := r.send(t, s); status != http.StatusUnauthorized {
			t.Errorf("with an unknown token %s is answered %d", r.name, status)
		}
	}
}

// told reads the answer as the SDK does: flags that failed are not told.
func (r replay) told(answer map[string]any) told {
	if r.legacy {
		flags, _ := answer["featureFlags"].(map[string]any)
		return flags
	}
	values := told{}
	details, _ := answer["flags"].(map[string]any)
	for key, d := range details {
		flag, _ := d.(map[string]any)
		switch {
		case flag["failed"] == true:
		case flag["variant"] != nil:
			values[key] = flag["variant"]
		default:
			values[key] = flag["enabled"]
		}
	}
	return values
}

// send replays the request through the front.
func (r replay) send(t *testing.T, s *scene) (status int, answer map[string]any) {
	t.Helper()
	body := []byte(fmt.Sprintf(r.body, token))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+r.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("User-Agent", r.userAgent)
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	if r.gzip {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, errWrite := w.Write(body)
		if err := errors.Join(errWrite, w.Close()); err != nil {
			t.Fatal(err)
		}
		body = packed.Bytes()
		request.Header.Set("Content-Encoding", "gzip")
	}
	request.Body, request.ContentLength, request.Close = io.NopCloser(bytes.NewReader(body)), int64(len(body)), true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			t.Fatalf("%s reads the answer: %v", r.name, err)
		}
	}
	return response.StatusCode, answer
}
