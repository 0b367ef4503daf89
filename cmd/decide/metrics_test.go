package main

import (
	"bufio"
	"fmt"
	"net/http"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

// A series that begins with its first event hides that event from increase(), so every one that can be known is there from the start.
func TestMetricsFromTheStart(t *testing.T) {
	t.Parallel()
	admin := "127.0.0.1:" + testenv.FreePort(t)
	testenv.Run(t, testenv.Build(t, "cmd/decide"), []string{
		"DECIDE_REDIS_URL=redis://127.0.0.1:" + testenv.FreePort(t), "DECIDE_ADDR=127.0.0.1:" + testenv.FreePort(t), "DECIDE_ADMIN_ADDR=" + admin,
		"DECIDE_DRAIN_DELAY=0s",
	})
	testenv.Eventually(t, settle, func() error { return ready200("http://" + admin + "/livez") })
	response, err := http.Get("http://" + admin + "/metrics") //nolint:noctx // because the program of this test has just answered
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]bool{}
	for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
		lines[scanner.Text()] = true
	}
	_ = response.Body.Close() // it has been read
	for name, labels := range map[string]map[string][]string{
		"everflag_decide_revalidations_total": {"reason": {
			"start", "owner_changed", "epoch_changed", "went_back", "confirmed", "gap_in_stream", "stream_behind", "reconciled", "completed", "unreadable_entry",
		}},
		"everflag_decide_snapshot_writes_total": {"result": {"written", "failed"}},
		"everflag_decide_evaluation_failures_total": {"reason": {
			"database_unavailable", "hash_key_override_error", "group_mapping_retry", "regex_not_supported", "dependency_failed", "data_parsing_error",
			"dependency_not_found_cohort", "dependency_cycle_cohort", "cohort_filters_parsing_error",
		}},
		"everflag_decide_rate_limited_total": {"limit": {"client", "token", "definitions", "revalidations"}},
		"everflag_decide_requests_total":     {"class": {"2xx", "4xx", "5xx"}},
	} {
		for label, values := range labels {
			for _, value := range values {
				series := fmt.Sprintf("%s{%s=%q} 0", name, label, value)
				switch name {
				case "everflag_decide_rate_limited_total":
					series = fmt.Sprintf("%s{action=\"warned\",%s=%q} 0", name, label, value)
				case "everflag_decide_requests_total":
					series = fmt.Sprintf("%s{%s=%q,endpoint=\"flags\"} 0", name, label, value)
				}
				if !lines[series] {
					t.Errorf("%s is not there", series)
				}
			}
		}
	}
}
