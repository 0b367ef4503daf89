package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/everflag/everflag/internal/testenv"
)

// newPostHogNode starts posthog-node, with what differs from its defaults only for the sake of time.
const newPostHogNode = `
	const { PostHog } = await load('posthog-node')
	globalThis.errors = []
	globalThis.sdk = new PostHog(token, { host, fetchRetryDelay: 10, featureFlagsRequestTimeoutMs: 30000, requestTimeout: 30000, ...options })
	sdk.on('error', (error) => errors.push(String(error)))
	globalThis.all = async (options) => await sdk.getAllFlags('u1', options)
	globalThis.one = async (key) => {
		const flags = await sdk.evaluateFlags('u1')
		return { getFlag: flags.getFlag(key), isEnabled: flags.isEnabled(key), getFeatureFlag: await sdk.getFeatureFlag(key, 'u1') }
	}
`

// posthog-node remembers nothing between requests when it evaluates remotely, so there is nothing that it could keep: what cannot be computed is off for
// getAllFlags, and so it is when decide does not answer, but for the undefined that getFlag then returns.
func TestPostHogNodeRemote(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	n := newNode(t, s)
	all := do[told](t, n, "const options = {};"+newPostHogNode+`return await all({
		groups: { organization: 'acme' }, personProperties: { plan: 'paid' }, groupProperties: { organization: { tier: 'gold' } } })`)
	want := told{"always": true, "never": false, "by-plan": true, "by-group": true, "color": "blue", "wobbly": true, "leaves": true}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("in health getAllFlags tells (-want +got):\n%s", diff)
	}
	s.last(t, "/flags/").wantSent(t, sent{
		method: http.MethodPost, query: "v=2", contentType: "application/json", userAgent: "posthog-node/", members: []string{
			"distinct_id", "evaluation_runtime", "geoip_disable", "group_properties", "groups", "person_properties", "token",
		},
	})
	if payload := do[map[string]any](t, n, "return await sdk.getFeatureFlagPayload('color', 'u1')"); payload["hex"] != "#00f" {
		t.Errorf("the payload is %v", payload)
	}
	single := func(when string, want map[string]any) {
		t.Helper()
		if diff := cmp.Diff(want, do[map[string]any](t, n, "return await one('wobbly')")); diff != "" {
			t.Errorf("%s one flag is told as (-want +got):\n%s", when, diff)
		}
	}
	on := map[string]any{"getFlag": true, "isEnabled": true, "getFeatureFlag": true}
	off := map[string]any{"getFlag": false, "isEnabled": false, "getFeatureFlag": false}
	unknown := map[string]any{"isEnabled": false} // the others are undefined
	single("in health", on)
	s.change(t, map[string]string{"wobbly": wobblyBad})
	single("on a partial answer", off) // the SDK does not look at failed
	s.to(s.cold)
	before := len(s.seen("/flags/"))
	single("on 503", unknown)
	s.wantStatus(t, http.StatusServiceUnavailable)
	if tries := len(s.seen("/flags/")) - before; tries != 2 {
		t.Errorf("on 503 two questions were asked %d times in all, documented is no repetition", tries)
	}
	before = len(s.seen("/flags/"))
	s.cut()
	single("without an answer", unknown)
	if tries := len(s.seen("/flags/")) - before; tries != 4 {
		t.Errorf("without an answer two questions were asked %d times in all, documented is one repetition each", tries)
	}
	s.say(http.StatusOK, quotaAnswer)
	single("over PostHog's quota", unknown)
	s.to(s.warm)
	s.forget(t)
	single("on 401", unknown)
	s.wantStatus(t, http.StatusUnauthorized)
}

// With a secret key posthog-node evaluates by itself and keeps its definitions through everything but a quota, which decide does not have.
func TestPostHogNodeLocal(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	n := newNode(t, s)
	const path = "/flags/definitions"
	local := func(when string, want told) {
		t.Helper()
		if diff := cmp.Diff(want, do[told](t, n, "return await all({ onlyEvaluateLocally: true })")); diff != "" {
			t.Errorf("%s getAllFlags tells (-want +got):\n%s", when, diff)
		}
	}
	ready := do[bool](t, n, "const options = { secretKey, featureFlagsPollingInterval: 100 };"+newPostHogNode+"return await sdk.waitForLocalEvaluationReady()")
	if !ready {
		t.Fatal("the definitions were not loaded")
	}
	// Whether by-plan is on depends on a property that nobody gave: it is not told at all. A flag by group is off without a group.
	flags := told{"always": true, "never": false, "by-group": false, "color": "blue", "wobbly": true, "leaves": true}
	local("in health", flags)
	first := s.await(t, path, 1)
	first.wantSent(t, sent{
		method: http.MethodGet, query: "send_cohorts=&token=" + token, contentType: "application/json", userAgent: "posthog-node/",
	})
	if got := first.Header.Get("Authorization"); got != "Bearer "+secret {
		t.Errorf("the definitions were asked for with Authorization %q", got)
	}
	s.awaitStatus(t, path, http.StatusNotModified)
	if all := do[told](t, n, "return await all()"); all["by-plan"] != false || len(s.seen("/flags/")) != 1 {
		t.Errorf("what the SDK cannot decide itself it asks for with %d requests, and tells %v", len(s.seen("/flags/")), all)
	}

	s.to(s.cold)
	s.awaitStatus(t, path, http.StatusServiceUnavailable)
	local("on 503", flags)
	s.cut()
	s.awaitStatus(t, path, 0)
	local("without an answer", flags)
	s.say(http.StatusPaymentRequired, definitionsQuotaAnswer)
	s.awaitStatus(t, path, http.StatusPaymentRequired)
	local("over PostHog's quota", told{})
	s.to(s.warm)
	version := s.cache.define(t, map[string]string{"wobbly": flagOff, "leaves": ""})
	s.awaitVersion(t, version)
	testenv.Eventually(t, 10*time.Second, func() error {
		if got := do[told](t, n, "return await all({ onlyEvaluateLocally: true })"); got["wobbly"] != false || got["leaves"] != nil {
			return fmt.Errorf("back in health getAllFlags tells %v", got)
		}
		return nil
	})
	delete(flags, "leaves")
	flags["wobbly"] = false
	local("back in health", flags)
	s.forget(t)
	s.awaitStatus(t, path, http.StatusUnauthorized)
	local("on 401", flags)
}

// A personal key cannot be verified without Postgres: the client is told which key works, and evaluates remotely.
func TestPostHogNodePersonalKey(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	n := newNode(t, s)
	value := do[any](t, n, "const options = { personalApiKey: 'phx_someone' };"+newPostHogNode+"return await sdk.getFeatureFlag('color', 'u1')")
	if value != "blue" {
		t.Errorf("the flag is %v", value)
	}
	refusal := s.await(t, "/flags/definitions", 1)
	var answer struct{ Detail, Hint string }
	if err := json.Unmarshal(refusal.Answer, &answer); err != nil || refusal.Status != http.StatusUnauthorized || answer.Hint == "" {
		t.Errorf("a personal key is answered %d %s", refusal.Status, refusal.Answer)
	}
	if errors := do[[]string](t, n, "return errors"); len(errors) == 0 {
		t.Error("the application hears of no error")
	}
}

// vectors are PostHog's own consistency vectors, as package decide has them.
type vectors struct {
	Flags []struct {
		Key     string          `json:"key"`
		Filters json.RawMessage `json:"filters"`
	} `json:"flags"`
	Simple       string `json:"simple"`
	Multivariate string `json:"multivariate"`
}

// TestPostHogNodeConsistency asks for a thousand users three ways: decide's evaluation, the SDK's own over decide's definitions, and PostHog's published
// results must agree on every one.
func TestPostHogNodeConsistency(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	text, err := os.ReadFile(filepath.Join("..", "..", "decide", "testdata", "consistency.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	definitions := map[string]string{}
	for key := range flags {
		definitions[key] = ""
	}
	for _, f := range v.Flags {
		definitions[f.Key] = fmt.Sprintf(`{"filters":%s}`, f.Filters)
	}
	s.change(t, definitions)
	n := newNode(t, s)
	const users = 1000
	variants := []string{"", "first-variant", "second-variant", "third-variant", "fourth-variant", "fifth-variant"}
	ask := func(options, call string) []told {
		return do[[]told](t, n, fmt.Sprintf(`const options = %s; %s
			const users = Array.from({ length: %d }, (_, i) => 'distinct_id_' + i), told = []
			if (options.secretKey) await sdk.waitForLocalEvaluationReady()
			while (users.length > 0) told.push(...await Promise.all(users.splice(0, 20).map((user) => sdk.getAllFlags(user, %s))))
			return told`, options, newPostHogNode, users, call))
	}
	for way, told := range map[string][]told{
		"remotely": ask("{}", "{}"), "locally": ask("{ secretKey }", "{ onlyEvaluateLocally: true }"),
	} {
		if len(told) != users || len(v.Simple) != users || len(v.Multivariate) != users {
			t.Fatalf("%s %d users, vectors for %d and %d", way, len(told), len(v.Simple), len(v.Multivariate))
		}
		wrong := 0
		for i, got := range told {
			simple := v.Simple[i] == '1'
			var multivariate any = false
			if digit := v.Multivariate[i] - '0'; digit > 0 {
				multivariate = variants[digit]
			}
			if got["simple-flag"] != simple || got["multivariate-flag"] != multivariate {
				if wrong++; wrong <= 5 {
					t.Errorf("%s distinct_id_%d: %v, want %v and %v", way, i, got, simple, multivariate)
				}
			}
		}
		t.Logf("%s %d users, %d of them wrong", way, users, wrong)
	}
	if asked := len(s.seen("/flags/")); asked != users {
		t.Errorf("%d requests for flags, want one for each of %d users, and none from local evaluation", asked, users)
	}
}
