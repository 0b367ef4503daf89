package main

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// told is what an SDK tells the application about flags: their values by key, without those it knows nothing of.
type told map[string]any

// keeps takes an SDK that remembers flags through all that can happen to its server, and holds it to the promise that it keeps the old flags unless there
// were no errors. The script has defined reload(), which has the SDK ask again and returns what it then tells; absent is what it tells of a flag that is
// gone. The SDK has told decide all that the flags need to know.
func keeps(t *testing.T, s *scene, sdk script, absent any) {
	t.Helper()
	reload := func(when string, want told) {
		t.Helper()
		if diff := cmp.Diff(want, do[told](t, sdk, "return await reload()")); diff != "" {
			t.Errorf("%s the SDK tells something else (-want +got):\n%s", when, diff)
		}
	}
	flags := told{"always": true, "never": false, "by-plan": true, "by-group": true, "color": "blue", "wobbly": true, "leaves": true}
	with := func(changes told) told {
		changed := maps.Clone(flags)
		maps.Copy(changed, changes)
		maps.DeleteFunc(changed, func(_ string, value any) bool { return value == nil })
		return changed
	}
	if absent != nil {
		flags["arrives"] = absent
	}
	reload("in health", flags)

	s.change(t, map[string]string{"wobbly": wobblyBad, "color": colorRed, "leaves": "", "arrives": flagOn})
	flags = with(told{"color": "red", "arrives": true}) // leaves stays: a partial answer cannot say that a flag is gone
	reload("on a partial answer", flags)
	answer := string(s.last(t, "/flags/").Answer)
	if !strings.Contains(answer, `"errorsWhileComputingFlags":true`) || !strings.Contains(answer, `"failed":true`) {
		t.Errorf("the partial answer does not say that it is one: %s", answer)
	}

	s.to(s.cold)
	reload("on 503", flags)
	s.wantStatus(t, http.StatusServiceUnavailable)
	s.cut()
	reload("without an answer", flags)
	s.say(http.StatusOK, quotaAnswer)
	reload("over PostHog's quota", flags)

	s.change(t, map[string]string{"wobbly": flagOff})
	s.to(s.warm)
	flags = with(told{"wobbly": false, "leaves": absent})
	reload("back in health", flags)
	s.wantStatus(t, http.StatusOK)

	s.forget(t)
	reload("on 401", flags)
	s.wantStatus(t, http.StatusUnauthorized)
}

// What PostHog says when a project has used up its requests, to requests for flags and for definitions. decide has no quotas.
const (
	quotaAnswer            = `{"flags":{},"errorsWhileComputingFlags":false,"quotaLimited":["feature_flags"],"requestId":"0a9b1c5e-0000-4000-8000-000000000000"}`
	definitionsQuotaAnswer = `{"type":"quota_limited","code":"payment_required","detail":"You have exceeded your feature flag request quota","attr":null}`
)

// wantStatus checks that the last answer to a request for flags was the one that the step is about.
func (s *scene) wantStatus(t *testing.T, want int) {
	t.Helper()
	if got := s.last(t, "/flags/").Status; got != want {
		t.Errorf("the SDK was answered %d, want %d", got, want)
	}
}
