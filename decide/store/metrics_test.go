package store

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// S51, S56: source, age, last change and position are numbers, and the status is JSON that says the same.
func TestMetricsAndStatus(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	b := setup(t, func(cfg *Config) { cfg.Registerer = registry })
	b.w.fill("one", definition{id: 1, mark: "a", flags: 2})
	b.start(t)
	b.w.put(definition{id: 1, mark: "b", flags: 2})
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "b", "phc_9": "absent"})
	b.Program("phc_1")
	want := `
# HELP everflag_decide_source 1 for where answers come from: file, redis, or memory when Redis does not answer.
# TYPE everflag_decide_source gauge
everflag_decide_source{source="file"} 0
everflag_decide_source{source="memory"} 0
everflag_decide_source{source="none"} 0
everflag_decide_source{source="redis"} 1
# HELP everflag_decide_teams Teams in memory.
# TYPE everflag_decide_teams gauge
everflag_decide_teams 1
# HELP everflag_decide_programs Compiled teams in memory.
# TYPE everflag_decide_programs gauge
everflag_decide_programs 1
# HELP everflag_decide_definitions_age_seconds Time since the last heartbeat of the cache that was seen; 0 while they come.
# TYPE everflag_decide_definitions_age_seconds gauge
everflag_decide_definitions_age_seconds 0
`
	err := testutil.GatherAndCompare(registry, strings.NewReader(want), "everflag_decide_source", "everflag_decide_teams", "everflag_decide_programs",
		"everflag_decide_definitions_age_seconds")
	if err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	text, err := json.Marshal(b.Status())
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{`"source":"redis"`, `"owner":"one"`, `"teams":1`, `"certain":true`, `"complete":true`, `"last_change":"`, `"position":"`} {
		if !strings.Contains(string(text), member) {
			t.Errorf("status %s lacks %s", text, member)
		}
	}
}
