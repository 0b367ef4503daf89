package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/testenv"
)

const (
	teamsWithFlags = 24_000
	teamsWithout   = 214_000
	flagsPerTeam   = 10
)

// TestLargeInstallation measures the start with as many teams as the largest installation that the budgets are about: at most 5 s from Redis, 3 s from
// the file, 400 MB. It takes a minute, so it runs only when asked for: EVERFLAG_LARGE=1.
func TestLargeInstallation(t *testing.T) {
	if os.Getenv("EVERFLAG_LARGE") == "" {
		t.Skip("EVERFLAG_LARGE is not set")
	}
	own := testenv.RedisServer(t, testenv.RedisOptions{})
	fillLarge(t, own.Client(t))
	path := filepath.Join(t.TempDir(), "snapshot")
	for _, from := range []string{"redis", "file"} {
		settle()
		cfg := Config{Client: newClient(t, own.URL), SnapshotFile: path}
		if from == "file" {
			cfg.Client = nil
		}
		s := New(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		start := time.Now()
		go func() { done <- s.Run(ctx) }()
		testenv.Eventually(t, time.Minute, func() error {
			if !s.Position().Ready {
				return fmt.Errorf("not ready")
			}
			return nil
		})
		took := time.Since(start)
		peak := testenv.Resident(t, os.Getpid())
		n := s.view.Load()
		settle()
		t.Logf("from %s: ready in %v; resident %d MB, after collection %d MB; %d teams, records %d MB", from, took, peak>>20, testenv.Resident(t, os.Getpid())>>20, n.teams.size, n.records>>20)
		start = time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("stopped and file written in %v: %d MB", time.Since(start), info.Size()>>20)
	}
}

func settle() {
	runtime.GC()
	debug.FreeOSMemory()
}

func fillLarge(t *testing.T, client *redis.Client) {
	t.Helper()
	ctx := t.Context()
	keys := flagcache.NewKeys(flagcache.DefaultPrefix)
	random := rand.New(rand.NewPCG(1, 2))
	version := flagcache.Version(1790000000000, 0x1000)
	for from := 0; from < teamsWithFlags+teamsWithout; from += 1000 {
		_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for id := from + 1; id <= min(from+1000, teamsWithFlags+teamsWithout); id++ {
				token := randomToken(random)
				fields := []any{flagcache.VersionField, version, "team", teamRecord(random, id, token)}
				if id%10 == 0 && id/10 <= teamsWithFlags {
					for n := range flagsPerTeam {
						flag := id*100 + n
						fields = append(fields, fmt.Sprintf("flag:%d", flag), flagRecord(random, flag))
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
	now := client.Time(ctx).Val()
	err := client.HSet(ctx, keys.Meta, flagcache.MetaSchema, 1, flagcache.MetaOwner, "one", flagcache.MetaEpoch, 1790000000000, flagcache.MetaSeq, 0,
		flagcache.MetaCheckpoint, "0/1000", flagcache.MetaComplete, "1", flagcache.MetaHeartbeat, now.UnixMilli()).Err()
	if err != nil {
		t.Fatal(err)
	}
}

func randomToken(random *rand.Rand) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	text := []byte("phc_")
	for range 43 {
		text = append(text, alphabet[random.IntN(len(alphabet))])
	}
	return string(text)
}

// teamRecord has the columns of a team that current PostHog serves.
func teamRecord(random *rand.Rand, id int, token string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"id":%d,"uuid":"%016x-%016x","organization_id":"%016x-%016x","project_id":%d,"parent_team_id":null,"api_token":%q,`,
		id, random.Uint64(), random.Uint64(), random.Uint64(), random.Uint64(), id, token)
	fmt.Fprintf(&b, `"secret_api_token":"%016x%016x%016x%016x","secret_api_token_backup":null,"name":"Project %d","timezone":"UTC"`,
		random.Uint64(), random.Uint64(), random.Uint64(), random.Uint64(), id)
	for _, column := range strings.Fields(`session_recording_sample_rate session_recording_minimum_duration_milliseconds session_recording_linked_flag
		session_recording_network_payload_capture_config session_recording_masking_config session_recording_trigger_match_type_config
		session_replay_config recording_domains survey_config surveys_opt_in product_tours_opt_in capture_dead_clicks autocapture_opt_out
		autocapture_exceptions_opt_in autocapture_exceptions_errors_to_ignore autocapture_web_vitals_opt_in heatmaps_opt_in inject_web_apps
		logs_settings conversations_enabled conversations_settings flags_persistence_default extra_settings`) {
		fmt.Fprintf(&b, `,%q:null`, column)
	}
	b.WriteString(`,"session_recording_opt_in":false,"capture_console_log_opt_in":true,"capture_performance_opt_in":true,"cookieless_server_hash_mode":0}`)
	return b.String()
}

func flagRecord(random *rand.Rand, id int) string {
	return fmt.Sprintf(`{"id":%d,"key":"flag-%d","name":"Description of %d","filters":{"groups": [{"variant": null, "properties": [{"key": "email", `+
		`"type": "person", "value": ["user%d@example.com"], "operator": "icontains"}], "rollout_percentage": %d}], "payloads": {}, "multivariate": null},`+
		`"rollout_percentage":null,"active":true,"version":%d,"ensure_experience_continuity":false,"evaluation_runtime":"all",`+
		`"bucketing_identifier":"distinct_id","is_remote_configuration":false,"has_encrypted_payloads":false}`,
		id, id, id, random.IntN(100000), random.IntN(101), random.IntN(50))
}
