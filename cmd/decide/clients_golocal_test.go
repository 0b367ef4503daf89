//go:build !race

// posthog-go 1.5.2 reads its definitions without the lock that it writes them under. The race detector is right to end this test, and decide cannot help it.

package main

import (
	"net/http"
	"testing"

	"github.com/posthog/posthog-go"
)

// With a secret key posthog-go evaluates by itself and keeps its definitions through everything but a quota, which decide does not have.
func TestPostHogGoLocal(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	client := newPostHogGo(t, s, secret)
	const path = "/api/feature_flag/local_evaluation"
	one := func(when, key string, want any) {
		t.Helper()
		got, err := client.GetFeatureFlag(posthog.FeatureFlagPayload{Key: key, DistinctId: "u1", OnlyEvaluateLocally: true})
		if got != want || err != nil {
			t.Errorf("%s the flag %s is %v, error %v", when, key, got, err)
		}
	}
	reload := func(status int) {
		t.Helper()
		for range 2 { // it returns before it has happened; the first has when the second begins
			before := len(s.seen(path))
			if err := client.ReloadFeatureFlags(); err != nil {
				t.Fatalf("reloading: %v", err)
			}
			if got := s.await(t, path, before+1).Status; got != status {
				t.Errorf("the SDK was answered %d, want %d", got, status)
			}
		}
	}
	one("in health", "wobbly", true)
	one("in health", "color", "blue")
	s.last(t, path).wantSent(t, sent{
		method: http.MethodGet, query: "send_cohorts=true&token=" + token, contentType: "application/json", userAgent: "posthog-go/",
	})
	if tag := s.last(t, path).Header.Get("If-None-Match"); tag != "" {
		t.Errorf("the SDK asks with tag %q, documented is none", tag)
	}
	if _, err := client.GetFeatureFlag(posthog.FeatureFlagPayload{Key: "by-plan", DistinctId: "u1"}); err != nil || len(s.seen("/flags/")) != 1 {
		t.Errorf("what the SDK cannot decide itself it asks for with %d requests, error %v", len(s.seen("/flags/")), err)
	}
	s.to(s.cold)
	reload(http.StatusServiceUnavailable)
	one("on 503", "wobbly", true)
	s.cut()
	reload(0)
	one("without an answer", "wobbly", true)
	s.say(http.StatusPaymentRequired, definitionsQuotaAnswer)
	reload(http.StatusPaymentRequired)
	one("over PostHog's quota", "wobbly", nil)
	s.change(t, map[string]string{"wobbly": flagOff})
	s.to(s.warm)
	reload(http.StatusOK)
	one("back in health", "wobbly", false)
	s.forget(t)
	reload(http.StatusUnauthorized)
	one("on 401", "wobbly", false)
	one("on 401", "color", "blue")
}
