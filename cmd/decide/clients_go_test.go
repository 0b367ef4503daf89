package main

import (
	"net/http"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/open-feature/go-sdk-contrib/providers/ofrep"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/posthog/posthog-go"
)

// newPostHogGo starts posthog-go, which tells its errors to the caller as well.
func newPostHogGo(t *testing.T, s *scene, secretKey string) posthog.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	client, err := posthog.NewWithConfig(token, posthog.Config{
		Endpoint: s.URL, Transport: transport, Logger: silent{}, PersonalApiKey: secretKey, FeatureFlagRequestTimeout: 30 * time.Second,
		DefaultFeatureFlagsPollingInterval: time.Hour, // the test says when
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("closing posthog-go: %v", err)
		}
	})
	return client
}

// silent is a logger that says nothing.
type silent struct{}

func (silent) Debugf(string, ...any) {}
func (silent) Logf(string, ...any)   {}
func (silent) Warnf(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// posthog-go remembers nothing between requests when it evaluates remotely. On a partial answer it tells off, else an error.
func TestPostHogGoRemote(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	client := newPostHogGo(t, s, "")
	one := func(when string, want any, wantError bool) {
		t.Helper()
		got, err := client.GetFeatureFlag(posthog.FeatureFlagPayload{Key: "wobbly", DistinctId: "u1"})
		if got != want || (err != nil) != wantError {
			t.Errorf("%s the flag is %v, error %v", when, got, err)
		}
	}
	all, err := client.GetAllFlags(posthog.FeatureFlagPayloadNoKey{
		DistinctId: "u1", Groups: posthog.NewGroups().Set("organization", "acme"), PersonProperties: posthog.NewProperties().Set("plan", "paid"),
		GroupProperties: map[string]posthog.Properties{"organization": posthog.NewProperties().Set("tier", "gold")},
	})
	want := map[string]any{"always": true, "never": false, "by-plan": true, "by-group": true, "color": "blue", "wobbly": true, "leaves": true}
	if diff := gocmp.Diff(want, all); diff != "" || err != nil {
		t.Errorf("in health GetAllFlags tells, with error %v (-want +got):\n%s", err, diff)
	}
	request := s.seen("/flags/")[0]
	request.wantSent(t, sent{
		method: http.MethodPost, query: "v=2", contentType: "application/json", userAgent: "posthog-go/", members: []string{
			"api_key", "distinct_id", "group_properties", "groups", "person_properties",
		},
	})
	one("in health", true, false)
	s.change(t, map[string]string{"wobbly": wobblyBad})
	one("on a partial answer", false, false) // the SDK does not look at failed
	s.to(s.cold)
	one("on 503", nil, true)
	s.cut()
	one("without an answer", nil, true)
	s.say(http.StatusOK, quotaAnswer)
	one("over PostHog's quota", false, false) // it looks for another spelling of quotaLimited
	s.to(s.warm)
	s.forget(t)
	one("on 401", nil, true)
	s.wantStatus(t, http.StatusUnauthorized)
}

// The OpenFeature provider for Go asks for one flag at a time and tells the caller's default whenever there is no value, with an error.
func TestOFREPGo(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	http1 := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	provider := ofrep.NewProvider(s.URL, ofrep.WithClient(http1), ofrep.WithBearerToken(token))
	user := openfeature.FlattenedContext{"targetingKey": "u1", "plan": "paid"}
	one := func(when string, key string, fallback, want bool, reason openfeature.Reason) {
		t.Helper()
		if r := provider.BooleanEvaluation(t.Context(), key, fallback, user); r.Value != want || r.Reason != reason {
			t.Errorf("%s the flag %s is %+v, want %v for %s", when, key, r, want, reason)
		}
	}
	one("in health", "by-plan", false, true, openfeature.TargetingMatchReason)
	one("in health", "never", true, false, openfeature.DefaultReason)
	r := provider.StringEvaluation(t.Context(), "color", "green", user)
	if r.Value != "blue" || r.Variant != "blue" || r.FlagMetadata["payload"] != `{"hex":"#00f"}` {
		t.Errorf("the flag color is %+v", r)
	}
	s.last(t, "/ofrep/v1/evaluate/flags/color").wantSent(t, sent{
		method: http.MethodPost, contentType: "application/json", userAgent: "Go-http-client/", members: []string{"context"},
	})
	s.change(t, map[string]string{"wobbly": wobblyBad})
	for _, fallback := range []bool{true, false} {
		one("on a partial answer", "wobbly", fallback, fallback, openfeature.ErrorReason)
	}
	s.to(s.cold)
	one("on 503", "always", true, true, openfeature.ErrorReason)
	s.cut()
	one("without an answer", "always", true, true, openfeature.ErrorReason)
	s.to(s.warm)
	s.forget(t)
	one("on 401", "always", true, true, openfeature.ErrorReason)
}
