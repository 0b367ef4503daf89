package main

import (
	"fmt"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

// A series that begins with its first event hides that event from increase(), so every one that can be known is there from the start. With Redis away from
// the start, each attempt to look who leads is counted.
func TestMetricsFromTheStart(t *testing.T) {
	t.Parallel()
	db, admin := testenv.Postgres(t), "127.0.0.1:"+testenv.FreePort(t)
	testenv.LoadSchema(t, db, testenv.Schema2026)
	testenv.Run(t, testenv.Build(t, "cmd/replicator"), []string{
		"REPLICATOR_POSTGRES_URL=" + db.URL, "REPLICATOR_REDIS_URL=redis://127.0.0.1:" + testenv.FreePort(t), "REPLICATOR_ADMIN_ADDR=" + admin,
		"REPLICATOR_SLOT=slot_" + testenv.FreePort(t),
	})
	url := "http://" + admin + "/metrics"
	testenv.Eventually(t, settle, func() error { return get("http://" + admin + "/livez") })
	const redisErrors = "everflag_cachewriter_redis_errors_total"
	for name, labels := range map[string]map[string][]string{
		"everflag_replicator_session_ends_total":   {"reason": {"fenced", "postgres_stopping", "postgres_silent", "malformed", "refused", "connection"}},
		"everflag_replicator_reconciles_total":     {"result": {"complete", "provisional", "failed"}},
		"everflag_replicator_verifies_total":       {"result": {"clean", "drift", "failed"}},
		redisErrors:                                {"class": {"unreachable", "unready", "full", "refused", "foreign", "other"}},
		"everflag_cachewriter_teams_written_total": {"cause": {"stream", "reconcile"}},
	} {
		for label, values := range labels {
			for _, value := range values {
				got, err := metric(url, fmt.Sprintf("%s{%s=%q}", name, label, value))
				if happens := value == "connection" || value == "unreachable"; err != nil || got != 0 && !happens {
					t.Errorf("%s of %s is %v (%v), want 0", name, value, got, err)
				}
			}
		}
	}
	testenv.Eventually(t, settle, func() error {
		got, err := metric(url, redisErrors+`{class="unreachable"}`)
		if err == nil && got < 3 {
			err = fmt.Errorf("%v errors of Redis are counted", got)
		}
		return err
	})
}
