package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/oracle"
	"github.com/everflag/everflag/internal/testenv"
)

// installation is the whole chain on servers of its own: Postgres, the replicator, a Redis to hurt, and two decide processes.
type installation struct {
	world      *testenv.DB
	redis      *testenv.RedisInstance
	replicator *testenv.Program
	decides    []*server
}

func install(t *testing.T, redisConf map[string]string) *installation {
	t.Helper()
	in := &installation{world: testenv.Postgres(t), redis: testenv.RedisServer(t, testenv.RedisOptions{Conf: redisConf})}
	testenv.LoadSchema(t, in.world, testenv.Schema2026)
	testenv.LoadSeed(t, in.world, testenv.Schema2026)
	in.replicator = testenv.Run(t, testenv.Build(t, "cmd/replicator"), []string{
		"REPLICATOR_POSTGRES_URL=" + in.world.URL, "REPLICATOR_REDIS_URL=" + in.redis.URL, "REPLICATOR_ADMIN_ADDR=127.0.0.1:" + testenv.FreePort(t),
		"REPLICATOR_SLOT=slot_" + testenv.FreePort(t), // one per test: slots belong to the server, not to the database
	})
	in.decides = []*server{startDecide(t, in.redis.URL, "everflag", ""), startDecide(t, in.redis.URL, "everflag", "")}
	in.waitEqual(t)
	for _, d := range in.decides {
		testenv.Eventually(t, settle, func() error { return d.serves(t.Context(), demoToken, "dark-mode", true) })
	}
	return in
}

// waitEqual waits until the cache is equal to the tables.
func (in *installation) waitEqual(t *testing.T) {
	t.Helper()
	conn, cache := in.world.Conn(t), in.redis.Client(t)
	testenv.Eventually(t, settle, func() error {
		lines, err := oracle.Differences(t.Context(), conn, cache, oracle.Options{})
		return errors.Join(err, firstOf(lines))
	})
}

// rollout changes the flag that the tests look at.
func (in *installation) rollout(t *testing.T, on bool) {
	t.Helper()
	percentage := 0
	if on {
		percentage = 100
	}
	in.world.Exec(t, `UPDATE posthog_featureflag SET filters = $1 WHERE key = $2`, fmt.Sprintf(`{"groups":[{"rollout_percentage":%d}]}`, percentage), rolloutFlag)
}

// served waits until both serve the flag as said and returns how long that took.
func (in *installation) served(t *testing.T, within time.Duration, on bool) time.Duration {
	t.Helper()
	start := time.Now()
	for _, d := range in.decides {
		testenv.Eventually(t, within-time.Since(start), func() error { return d.serves(t.Context(), demoToken, rolloutFlag, on) })
	}
	return time.Since(start)
}

// watch asks both for one user all the time and reports every answer that is not the first one. Stop it before flags change.
func (in *installation) watch(t *testing.T) (stop func() (asked int)) {
	t.Helper()
	var want []string
	for _, d := range in.decides {
		a, err := d.ask(t.Context(), demoToken, "ada")
		if err != nil || a.status != http.StatusOK || a.flags == "" {
			t.Fatalf("before anything is hurt: %d (%v)", a.status, err)
		}
		want = append(want, a.flags)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	asked := 0
	watching.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for ; ; asked++ {
			d := asked % len(in.decides)
			a, err := in.decides[d].ask(t.Context(), demoToken, "ada")
			if err != nil || a.status != http.StatusOK || a.flags != want[d] {
				t.Errorf("decide %d: status %d (%v), flags\n%s, want\n%s", d, a.status, err, a.flags, want[d])
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	stop = func() int { cancel(); watching.Wait(); return asked }
	t.Cleanup(func() { stop() })
	return stop
}

// TestRedisRestartsEmpty: Redis comes back without data while both programs run. No answer changes; the replicator fills the cache again, and the decide
// processes follow the new stream: the next change is served. S9, S14, S60.
func TestRedisRestartsEmpty(t *testing.T) {
	t.Parallel()
	in := install(t, map[string]string{"save": "", "appendonly": "no"})
	for round := range 3 {
		stop := in.watch(t)
		in.redis.Kill(t)
		in.redis.Start(t)
		cache := in.redis.Client(t)
		testenv.Eventually(t, settle, func() error {
			if complete := cache.HGet(t.Context(), "{everflag}:meta", "complete").Val(); complete != "1" {
				return fmt.Errorf("the cache is not complete again: %q", complete)
			}
			return nil
		})
		in.waitEqual(t)
		for _, d := range in.decides {
			testenv.Eventually(t, settle, func() error { // certainty is back: the new cache is followed
				a, err := d.ask(t.Context(), "phc_unknown", "ada")
				if err == nil && a.status != http.StatusUnauthorized {
					err = fmt.Errorf("an unknown token is answered %d, want 401", a.status)
				}
				return err
			})
		}
		asked := stop()
		if asked < 20 {
			t.Errorf("only %d requests meanwhile", asked)
		}
		in.rollout(t, round%2 == 0)
		took := in.served(t, 5*time.Second, round%2 == 0)
		t.Logf("round %d: %d answers alike; the next change was served by both after %v", round, asked, took)
	}
}

// TestRedisKillCycles kills and restarts Redis, which keeps its data, again and again; a flag changes while it is away, and every decide serves the newest
// value within two seconds of its return. 20 cycles with EVERFLAG_LARGE=1. Each outage is one warning of each program, whatever was tried meanwhile, and
// nothing but log lines in the programs' own form stands on standard error. S1, S3, S10, S13.
func TestRedisKillCycles(t *testing.T) {
	t.Parallel()
	cycles := 5
	if os.Getenv("EVERFLAG_LARGE") != "" {
		cycles = 20
	}
	in := install(t, map[string]string{"appendonly": "yes", "appendfsync": "always"})
	on := true
	in.rollout(t, on)
	in.served(t, settle, on)
	var slowest time.Duration
	for n := range cycles {
		in.redis.Kill(t)
		on = !on
		in.rollout(t, on)
		if n == 0 { // a long outage: many attempts fail
			for _, d := range in.decides {
				testenv.Eventually(t, settle, func() error { return errorsAtLeast(d, 10) })
			}
		}
		for _, d := range in.decides {
			if err := d.serves(t.Context(), demoToken, rolloutFlag, !on); err != nil {
				t.Errorf("cycle %d, with Redis away: %v", n, err)
			}
			if err := get("http://" + d.admin + "/readyz"); err != nil {
				t.Errorf("cycle %d, not ready for want of Redis: %v", n, err)
			}
		}
		in.redis.Start(t)
		slowest = max(slowest, in.served(t, 2*time.Second, on))
	}
	t.Logf("%d cycles, slowest: both served the newest value %v after the return of Redis", cycles, slowest)
	for _, d := range in.decides {
		checkLog(t, "decide", d.Program, "redis does not answer", cycles)
	}
	checkLog(t, "replicator", in.replicator, "", cycles)
}

// errorsAtLeast is nil once the follower has met so many errors.
func errorsAtLeast(d *server, want float64) error {
	got, err := metric("http://"+d.admin+"/metrics", "everflag_decide_redis_errors_total")
	if err == nil && got < want {
		err = fmt.Errorf("%v errors so far", got)
	}
	return err
}

// metric reads one number of a program.
func metric(url, name string) (float64, error) {
	response, err := http.Get(url) //nolint:gosec,noctx // because it is an address of this test
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // it has been read
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no metric %s at %s", name, url)
}

// checkLog wants nothing but JSON on standard error, and at most one warning with the text per outage: a short one may go by unseen.
func checkLog(t *testing.T, name string, p *testenv.Program, warning string, outages int) {
	t.Helper()
	warnings := 0
	for _, line := range p.Logs() {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("%s: a line that is no log line: %s", name, line)
		}
		if strings.Contains(line, `"level":"warn"`) && strings.Contains(line, warning) {
			warnings++
		}
	}
	t.Logf("%s: %d warnings in %d outages", name, warnings, outages)
	if warnings < 1 || warnings > outages {
		t.Errorf("%s: %d warnings in %d outages:\n%s", name, warnings, outages, strings.Join(p.Logs(), "\n"))
	}
}
