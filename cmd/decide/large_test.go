package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/testenv"
)

// TestStartFromFileAlone loads an installation from Redis, stops, and starts again with everything down: ready in under 3 s, with the same answers. With
// EVERFLAG_LARGE=1 it is one of the size that the budgets are about, 24,000 teams of 10 flags and 214,000 without, else a hundredth. S16, S22.
func TestStartFromFileAlone(t *testing.T) {
	t.Parallel()
	withFlags, without, limit := 240, 2_140, 3*time.Second
	if os.Getenv("EVERFLAG_LARGE") != "" {
		withFlags, without = 100*withFlags, 100*without
	}
	own := testenv.RedisServer(t, testenv.RedisOptions{Conf: map[string]string{"save": "", "appendonly": "no"}})
	fill(t, own.Client(t), withFlags, without)
	file := filepath.Join(t.TempDir(), "decide.snapshot")
	binary := testenv.Build(t, "cmd/decide")
	start := func() (p *testenv.Program, addr string, took time.Duration) {
		t.Helper()
		addr, admin := "127.0.0.1:"+testenv.FreePort(t), "127.0.0.1:"+testenv.FreePort(t)
		began := time.Now()
		p = testenv.Run(t, binary, []string{
			"DECIDE_REDIS_URL=" + own.URL, "DECIDE_ADDR=" + addr, "DECIDE_ADMIN_ADDR=" + admin, "DECIDE_SNAPSHOT_FILE=" + file, "DECIDE_DRAIN_DELAY=0s",
		})
		testenv.Eventually(t, time.Minute, func() error { return ready200("http://" + admin + "/readyz") })
		return p, addr, time.Since(began)
	}
	answers := func(addr string) map[string]string {
		t.Helper()
		found := map[string]string{}
		for n := range 100 {
			id := 1 + n*(withFlags+without-1)/99
			got, err := flagsOfToken(addr, fmt.Sprintf("phc_large_%d", id))
			if err != nil {
				t.Fatalf("team %d: %v", id, err)
			}
			found[fmt.Sprint(id)] = got
		}
		return found
	}

	p, addr, took := start()
	want := answers(addr)
	if all := fmt.Sprint(want); !strings.Contains(all, `"enabled":true`) || !strings.Contains(all, `"enabled":false`) {
		t.Fatalf("not both outcomes are in the answers: %.1000s", all)
	}
	t.Logf("from Redis: ready in %v, resident %d MiB with 100 teams compiled", took.Round(time.Millisecond), testenv.Resident(t, p.PID())>>20)
	p.Signal(t, syscall.SIGTERM)
	if code := p.WaitWithin(t, settle); code != 0 {
		t.Fatalf("exit code %d after SIGTERM", code)
	}
	own.Kill(t)
	p, addr, took = start()
	t.Logf("from the file: ready in %v, resident %d MiB", took.Round(time.Millisecond), testenv.Resident(t, p.PID())>>20)
	if took > limit {
		t.Errorf("ready after %v, more than %v", took, limit)
	}
	for id, got := range answers(addr) {
		if got != want[id] {
			t.Errorf("team %s: the answer changed\nfrom %s\nto   %s", id, want[id], got)
		}
	}
	if info, err := os.Stat(file); err == nil {
		t.Logf("the file has %d KiB", info.Size()>>10)
	}
}

// flagsOfToken is the flags member of an answer.
func flagsOfToken(addr, token string) (string, error) {
	response, err := http.Post("http://"+addr+"/flags/?v=2", "application/json", //nolint:gosec,noctx // because it is an address of this test
		strings.NewReader(`{"token":"`+token+`","distinct_id":"ada","person_properties":{"email":"user5@example.com"}}`))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // it has been read
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %.200s", response.Status, text)
	}
	if err != nil {
		return "", err
	}
	_, flags, _ := strings.Cut(string(text), `"flags":`)
	flags, _, _ = strings.Cut(flags, `"requestId"`)
	return flags, nil
}

// fill writes a complete cache; the teams with flags are spread evenly over all.
func fill(t *testing.T, client *redis.Client, withFlags, without int) {
	t.Helper()
	ctx, keys, version := t.Context(), flagcache.NewKeys(flagcache.DefaultPrefix), flagcache.Version(1790000000000, 0x1000)
	teams := withFlags + without
	every := teams / withFlags
	nulls := strings.ReplaceAll(strings.Join(strings.Fields(`sample_rate minimum_duration_milliseconds linked_flag network_payload_capture_config masking_config
		trigger_match_type_config recording_domains survey_config surveys_opt_in product_tours_opt_in capture_dead_clicks autocapture_opt_out
		exceptions_opt_in web_vitals_opt_in heatmaps_opt_in inject_web_apps logs_settings conversations_enabled extra_settings`), `":null,"`), " ", "")
	for from := 0; from < teams; from += 1000 {
		_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for id := from + 1; id <= min(from+1000, teams); id++ {
				token := fmt.Sprintf("phc_large_%d", id)
				fields := []any{flagcache.VersionField, version, "team", fmt.Sprintf(`{"id":%d,"uuid":"%032x","organization_id":"%032x","project_id":%d,"api_token":%q,`+
					`"secret_api_token":"%064x","name":"Project %d","timezone":"UTC","session_recording_opt_in":false,"%s":null}`,
					id, id*7919, id*104729, id, token, id*1299709, id, nulls)}
				if id%every == 0 && id/every <= withFlags {
					for n := range 10 {
						fields = append(fields, fmt.Sprintf("flag:%d", id*10+n), largeFlag(id*10+n))
					}
				}
				pipe.HSet(ctx, keys.Team(int64(id)), fields...)
				pipe.HSet(ctx, keys.Teams, id, version)
				pipe.HSet(ctx, keys.Tokens, token, id)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err := client.HSet(ctx, keys.Meta, flagcache.MetaSchema, flagcache.SchemaVersion, flagcache.MetaOwner, "test", flagcache.MetaEpoch, 1790000000000,
		flagcache.MetaSeq, 0, flagcache.MetaCheckpoint, "0/1000", flagcache.MetaComplete, "1", flagcache.MetaHeartbeat, client.Time(ctx).Val().UnixMilli()).Err()
	if err != nil {
		t.Fatal(err)
	}
}

func largeFlag(id int) string {
	return fmt.Sprintf(`{"id":%d,"key":"flag-%d","name":"Description of %d","filters":{"groups": [{"variant": null, "properties": [{"key": "email", `+
		`"type": "person", "value": ["user%d@example.com"], "operator": "exact"}], "rollout_percentage": %d}], "payloads": {}, "multivariate": null},`+
		`"active":true,"version":%d,"ensure_experience_continuity":false,"evaluation_runtime":"all","bucketing_identifier":"distinct_id"}`,
		id, id, id, id%10, id%101, id%50)
}
