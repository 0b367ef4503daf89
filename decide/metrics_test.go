package decide

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/everflag/everflag/decide/eval"
)

func TestMetrics(t *testing.T) { // S56
	source := newFakeSource(eval.RulesCurrent)
	source.put("phc_test", newTeam(t, "phc_test", "", plan("pro-only")))
	h, registry := newHandler(t, Config{}, source)
	call(h, "POST", "/flags/?v=2", anyone)
	call(h, "POST", "/flags/?v=2", "{}")
	call(h, "GET", "/nothing", "")
	err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP everflag_decide_panics_total Requests that panicked.
# TYPE everflag_decide_panics_total counter
everflag_decide_panics_total 0
# HELP everflag_decide_requests_in_flight Requests being answered.
# TYPE everflag_decide_requests_in_flight gauge
everflag_decide_requests_in_flight 0
`), "everflag_decide_panics_total", "everflag_decide_requests_in_flight")
	if err != nil {
		t.Error(err)
	}
	m := h.metrics
	for _, c := range []struct {
		to    endpoint
		class int
	}{{endpointFlags, 1}, {endpointFlags, 3}, {endpointUnknown, 3}} {
		if n := testutil.ToFloat64(m.requests[c.to][c.class]); n != 1 {
			t.Errorf("%s %s: counted %v", endpointNames[c.to], statusClasses[c.class], n)
		}
	}
	if n := testutil.CollectAndCount(m.failures); n != len(eval.ErrorCodes()) {
		t.Errorf("%d reasons of failures, want the %d that there are", n, len(eval.ErrorCodes()))
	}
	if n := testutil.ToFloat64(m.failures.WithLabelValues("database_unavailable")); n != 1 {
		t.Errorf("%v flags failed for want of a property, want 1", n)
	}

	// A pattern that needs a look ahead, and exponential time: it does not match, as in PostHog, and that is counted.
	source.put("phc_slow", newTeam(t, "phc_slow", "", `"key":"slow","filters":{"groups":[{"properties":[{"key":"plan","type":"person",
		"operator":"regex","value":"^(?=(a+)+$)(a|a)*b"}],"rollout_percentage":100}]}`))
	call(h, "POST", "/flags/?v=2", `{"token":"phc_slow","distinct_id":"u","person_properties":{"plan":"`+strings.Repeat("a", 50)+`!"}}`)
	if n := testutil.ToFloat64(m.regexLimits); n != 1 {
		t.Errorf("%v searches at their limit, want 1", n)
	}
}

// Whatever requests name, tokens, ids, paths, methods and properties, adds no series to the metrics: S48.
func TestSeriesDoNotGrow(t *testing.T) {
	source := newFakeSource(eval.RulesCurrent)
	source.put("phc_test", newTeam(t, "phc_test", "", everyone("on"), plan("pro-only")))
	h, registry := newHandler(t, Config{RateLimit: RateLimit{Mode: RateLog, TokenBurst: 2, ClientBurst: 10}}, source)
	request := func(n int) {
		call(h, "POST", "/flags/?v=2", fmt.Sprintf(`{"token":"phc_test","distinct_id":"u%d","groups":{"g%d":"k"},"person_properties":{"p%d":1}}`, n, n, n))
		call(h, "POST", fmt.Sprintf("/decide/?v=%d", n), fmt.Sprintf(`{"token":"phc_%d","distinct_id":"u"}`, n))
		call(h, "GET", fmt.Sprintf("/array/phc_%d/config", n), "")
		call(h, fmt.Sprintf("METHOD%d", n), fmt.Sprintf("/path/%d", n), "", "User-Agent", fmt.Sprintf("posthog-%d/1", n), "Origin", fmt.Sprintf("https://%d.example", n))
		call(h, "GET", fmt.Sprintf("/flags/definitions?token=phc_%d", n), "", "Authorization", fmt.Sprintf("Bearer phs_%d", n))
		call(h, "POST", fmt.Sprintf("/ofrep/v1/evaluate/flags/flag-%d", n), `{"context":{"targetingKey":"u"}}`, "X-API-Key", "phc_test")
	}
	request(0)
	before, err := testutil.GatherAndCount(registry)
	if err != nil || before == 0 {
		t.Fatalf("%d series, %v", before, err)
	}
	for n := range 200 {
		request(n + 1)
	}
	if after, err := testutil.GatherAndCount(registry); err != nil || after != before {
		t.Errorf("%d series, then %d (%v)", before, after, err)
	}
}
