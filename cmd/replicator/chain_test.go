package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/oracle"
	"github.com/everflag/everflag/internal/testenv"
)

// demoToken is the token of the first team of both seeds, rolloutFlag a flag of it with one condition and no properties.
const (
	demoToken   = testenv.DemoToken
	rolloutFlag = "new-checkout"
)

// server is a running decide process.
type server struct {
	*testenv.Program
	addr, admin string
}

func startDecide(t *testing.T, redisURL, prefix, snapshotFile string) *server {
	t.Helper()
	s := runDecide(t, redisURL, prefix, snapshotFile)
	testenv.Eventually(t, settle, func() error { return get("http://" + s.admin + "/readyz") })
	return s
}

// runDecide does not wait until it is ready.
func runDecide(t *testing.T, redisURL, prefix, snapshotFile string, more ...string) *server {
	t.Helper()
	s := &server{addr: "127.0.0.1:" + testenv.FreePort(t), admin: "127.0.0.1:" + testenv.FreePort(t)}
	s.Program = testenv.Run(t, testenv.Build(t, "cmd/decide"), append([]string{
		"DECIDE_REDIS_URL=" + redisURL, "DECIDE_KEY_PREFIX=" + prefix, "DECIDE_SNAPSHOT_FILE=" + snapshotFile, "DECIDE_ADDR=" + s.addr,
		"DECIDE_ADMIN_ADDR=" + s.admin, "DECIDE_DRAIN_DELAY=0s",
	}, more...), "serve")
	return s
}

// answer is what one user gets: status and the flags as one comparable text.
type answer struct {
	status int
	flags  string
	errors bool
	values map[string]bool
}

var httpClient = &http.Client{Timeout: 10 * time.Second}

func (s *server) ask(ctx context.Context, token, user string) (answer, error) {
	body := fmt.Sprintf(`{"token":%q,"distinct_id":%q,"person_properties":{"email":"a@example.com","plan":"free"}}`, token, user)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.addr+"/flags/?v=2", strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := httpClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // it has been read
	a := answer{status: response.StatusCode, values: map[string]bool{}}
	if err != nil || a.status != http.StatusOK {
		return a, err
	}
	var decoded struct {
		Errors bool `json:"errorsWhileComputingFlags"`
		Flags  map[string]struct {
			Enabled bool
			Variant *string
		}
	}
	if err := json.Unmarshal(text, &decoded); err != nil {
		return a, err
	}
	for key, f := range decoded.Flags {
		a.values[key] = f.Enabled
	}
	canonical, err := json.Marshal(decoded.Flags) // maps are encoded in the order of their keys
	a.flags, a.errors = string(canonical), decoded.Errors
	return a, err
}

func (s *server) serves(ctx context.Context, token, flag string, want bool) error {
	a, err := s.ask(ctx, token, "somebody")
	if err != nil {
		return err
	}
	if got, has := a.values[flag]; !has || got != want {
		return fmt.Errorf("%s = %t (present: %t), want %t", flag, got, has, want)
	}
	return nil
}

// TestChain runs the programs on real servers, on both generations of PostHog's tables: what SQL says is what both decide processes answer.
func TestChain(t *testing.T) { // S7
	t.Parallel()
	for _, schema := range []testenv.SchemaVersion{testenv.Schema2026, testenv.Schema2023} {
		t.Run(fmt.Sprint(schema), func(t *testing.T) {
			t.Parallel()
			w := newEmptyWorld(t)
			testenv.LoadSchema(t, w.pg, schema)
			testenv.LoadSeed(t, w.pg, schema)
			replicator := testenv.Run(t, testenv.Build(t, "cmd/replicator"), w.env(t))
			both := []*server{startDecide(t, w.redis.URL, w.redis.Prefix, ""), startDecide(t, w.redis.URL, w.redis.Prefix, "")}
			w.waitEqual(t)
			setRollout := func(percentage int) {
				w.exec(t, `UPDATE posthog_featureflag SET filters = $1 WHERE key = $2`, fmt.Sprintf(`{"groups":[{"rollout_percentage":%d}]}`, percentage), rolloutFlag)
			}
			for i := range 6 {
				setRollout(i % 2 * 100)
				for _, d := range both {
					testenv.Eventually(t, settle, func() error { return d.serves(t.Context(), demoToken, rolloutFlag, i%2 == 1) })
				}
			}
			for _, d := range both {
				testenv.Eventually(t, settle, func() error { // certain as soon as the heartbeat is seen
					a, err := d.ask(t.Context(), "phc_unknown", "somebody")
					if err == nil && a.status != http.StatusUnauthorized {
						err = fmt.Errorf("an unknown token is answered %d, want 401", a.status)
					}
					return err
				})
			}
			// A token that is rotated is gone, the new one works.
			w.exec(t, "UPDATE posthog_team SET api_token = 'phc_rotated' WHERE api_token = $1", demoToken)
			for _, d := range both {
				testenv.Eventually(t, settle, func() error { return d.serves(t.Context(), "phc_rotated", rolloutFlag, true) })
				if a, err := d.ask(t.Context(), demoToken, "somebody"); err != nil || a.status != http.StatusUnauthorized {
					t.Errorf("the old token is answered %d (%v), want 401", a.status, err)
				}
			}
			w.waitEqual(t)
			replicator.Signal(t, syscall.SIGTERM)
			if code := replicator.Wait(t); code != 0 {
				t.Errorf("exit code %d after SIGTERM", code)
			}
		})
	}
}

// TestOutages kills Postgres, then the replicator, then Redis under 10,000 requests, and then restarts decide with all of them down: no request fails and
// no answer changes (G7, G8; S3, S13, S16, S20). Nor does any get slower: see pace.
func TestOutages(t *testing.T) {
	t.Parallel()
	pg, rd := testenv.PostgresServer(t, testenv.PGOptions{}), testenv.RedisServer(t, testenv.RedisOptions{})
	db := pg.Database(t)
	testenv.LoadSchema(t, db, testenv.Schema2026)
	testenv.LoadSeed(t, db, testenv.Schema2026)
	replicator := testenv.Run(t, testenv.Build(t, "cmd/replicator"), []string{
		"REPLICATOR_POSTGRES_URL=" + db.URL, "REPLICATOR_REDIS_URL=" + rd.URL, "REPLICATOR_ADMIN_ADDR=127.0.0.1:" + testenv.FreePort(t),
	})
	file := filepath.Join(t.TempDir(), "decide.snapshot")
	d := startDecide(t, rd.URL, "everflag", file)
	conn, cache := db.Conn(t), rd.Client(t)
	testenv.Eventually(t, settle, func() error {
		lines, err := oracle.Differences(t.Context(), conn, cache, oracle.Options{})
		return errors.Join(err, firstOf(lines))
	})
	testenv.Eventually(t, settle, func() error { return d.serves(t.Context(), demoToken, "dark-mode", true) })

	want := map[string]string{}
	var quiet pace
	phase := func(name string, requests int) {
		t.Helper()
		took := make([]time.Duration, requests)
		for i := range requests {
			user := fmt.Sprint("user-", i%50)
			start := time.Now()
			a, err := d.ask(t.Context(), demoToken, user)
			took[i] = time.Since(start)
			if err != nil || a.status != http.StatusOK {
				t.Fatalf("%s: request %d is answered %d (%v)", name, i, a.status, err)
			}
			if want[user] == "" {
				want[user] = a.flags
			}
			if a.flags != want[user] {
				t.Fatalf("%s: the answer changed\nfrom %s\nto   %s", name, want[user], a.flags)
			}
		}
		p := paceOf(took)
		t.Logf("%-16s %5d requests, median %v, p99 %v, typical p99 of %d requests %v", name, requests, p.median, p.p99, paceBlock, p.typical)
		if quiet == (pace{}) {
			quiet = p
		}
		if err := p.slowerThan(quiet); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	phase("quiet", 2500)
	pg.Kill(t)
	phase("no Postgres", 2500)
	replicator.Kill(t)
	phase("no replicator", 2500)
	rd.Kill(t)
	phase("no Redis", 2500)
	if a, err := d.ask(t.Context(), "phc_unknown", "somebody"); err != nil || a.status != http.StatusServiceUnavailable {
		testenv.Eventually(t, settle, func() error { // certainty ends some seconds after the last heartbeat
			a, err := d.ask(t.Context(), "phc_unknown", "somebody")
			if err == nil && a.status != http.StatusServiceUnavailable {
				err = fmt.Errorf("an unknown token is answered %d, want 503", a.status)
			}
			return err
		})
	}
	d.Signal(t, syscall.SIGTERM)
	if code := d.Wait(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	d = startDecide(t, rd.URL, "everflag", file)
	phase("from the file", 2500)
}

// paceBlock is a number of requests of which the slowest hundredth is looked at.
const paceBlock = 250

// pace is how fast requests were answered.
//
// The machine that runs this runs other tests, too, and stops everything for some tens of milliseconds now and then. Such a pause falls into one block
// of requests and leaves the others alone, while a request that waited for Redis or for a lock of a busy reconnect would be in each. So typical, the median
// over the blocks of their p99, is held to little, and the p99 of all, which also has the moment of the kill in it, to a bound below every time-out that
// decide has towards Redis.
type pace struct {
	median, p99, typical time.Duration
}

func paceOf(took []time.Duration) pace {
	var blocks []time.Duration
	for block := range slices.Chunk(slices.Clone(took), paceBlock) {
		slices.Sort(block)
		blocks = append(blocks, block[len(block)*99/100])
	}
	slices.Sort(blocks)
	slices.Sort(took)
	return pace{median: took[len(took)/2], p99: took[len(took)*99/100], typical: blocks[len(blocks)/2]}
}

// slowerThan allows thrice the time of the quiet phase and a constant, since a p99 of half a millisecond is nothing but scheduling.
func (p pace) slowerThan(quiet pace) error {
	if limit := 3*quiet.typical + 25*time.Millisecond; p.typical > limit {
		return fmt.Errorf("typical p99 %v, more than %v: thrice the %v of the quiet phase and 25 ms", p.typical, limit, quiet.typical)
	}
	if limit := 3*quiet.p99 + 250*time.Millisecond; p.p99 > limit {
		return fmt.Errorf("p99 %v, more than %v: thrice the %v of the quiet phase and 250 ms", p.p99, limit, quiet.p99)
	}
	return nil
}

func firstOf(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	return errors.New(lines[0])
}
