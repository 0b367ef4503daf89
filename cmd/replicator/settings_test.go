package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

// TestWrongSettings wants one line on standard error that names the setting and what to do, the right exit code, and no secret, for everything that
// waiting cannot mend.
func TestWrongSettings(t *testing.T) { // F23, F27, F75
	t.Parallel()
	binary := testenv.Build(t, "cmd/replicator")
	w := newWorld(t)
	empty := testenv.Postgres(t)
	notLogical := testenv.PostgresServer(t, testenv.PGOptions{Conf: map[string]string{"wal_level": "replica"}})
	reader, withoutReplication := w.pg.Role(t, "")
	w.pg.Exec(t, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO "+reader)
	_, withoutSelect := w.pg.Role(t, "REPLICATION")
	w.pg.Exec(t, "CREATE PUBLICATION ready FOR TABLE posthog_team, posthog_featureflag, posthog_cohort, posthog_grouptypemapping, "+
		"feature_flags_teamfeatureflagsconfig, posthog_evaluationcontext, posthog_featureflagevaluationcontext, posthog_experiment "+
		"WITH (publish_via_partition_root = true)")
	readOnly := testenv.RedisServer(t, testenv.RedisOptions{})
	admin := readOnly.Client(t)
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "reader", "on", ">s3cret", "~*", "+@read", "+ping", "+@connection").Err(); err != nil {
		t.Fatal(err)
	}
	evicting := testenv.RedisServer(t, testenv.RedisOptions{Conf: map[string]string{"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })

	for name, c := range map[string]struct {
		env  []string
		code int
		want []string // in the last line
	}{
		"no postgres url":      {[]string{"REPLICATOR_POSTGRES_URL="}, 2, []string{"--postgres-url"}},
		"bad postgres url":     {[]string{"REPLICATOR_POSTGRES_URL=postgres://u:s3cret@[x/db"}, 2, []string{"--postgres-url"}},
		"no redis url":         {[]string{"REPLICATOR_REDIS_URL="}, 2, []string{"--redis-url"}},
		"bad redis url":        {[]string{"REPLICATOR_REDIS_URL=http://u:s3cret@x"}, 2, []string{"--redis-url"}},
		"bad prefix":           {[]string{"REPLICATOR_KEY_PREFIX=my{flags}"}, 2, []string{"--key-prefix", "{"}},
		"bad slot":             {[]string{"REPLICATOR_SLOT=Not-A-Slot"}, 2, []string{"--slot"}},
		"bad size":             {[]string{"REPLICATOR_MAX_TX_BYTES=many"}, 2, []string{"--max-tx-bytes"}},
		"bad level":            {[]string{"REPLICATOR_LOG_LEVEL=loud"}, 2, []string{"--log-level"}},
		"wrong password":       {[]string{"REPLICATOR_POSTGRES_URL=" + strings.Replace(withoutSelect, "everflag-test", "s3cret", 1)}, 1, []string{"--postgres-url", "password"}},
		"wal_level":            {[]string{"REPLICATOR_POSTGRES_URL=" + notLogical.URL("postgres")}, 1, []string{"wal_level", "logical"}},
		"missing table":        {[]string{"REPLICATOR_POSTGRES_URL=" + empty.URL}, 1, []string{"posthog_team", "--schema"}},
		"role may not publish": {[]string{"REPLICATOR_POSTGRES_URL=" + withoutReplication}, 1, []string{"privilege", "setup --print-sql"}},
		"role may not stream":  {[]string{"REPLICATOR_POSTGRES_URL=" + withoutReplication, "REPLICATOR_NO_SETUP=true", "REPLICATOR_PUBLICATION=ready"}, 1, []string{"attribute REPLICATION", "setup --print-sql"}},
		"role may not select":  {[]string{"REPLICATOR_POSTGRES_URL=" + withoutSelect}, 1, []string{"posthog_", "GRANT"}},
		"redis password":       {[]string{"REPLICATOR_REDIS_URL=redis://reader:wr0ng@" + readOnly.Addr}, 2, []string{"--redis-url"}},
		"redis not writable":   {[]string{"REPLICATOR_REDIS_URL=redis://reader:s3cret@" + readOnly.Addr}, 2, []string{"--redis-url"}},
		"redis evicts":         {[]string{"REPLICATOR_REDIS_URL=" + evicting.URL}, 2, []string{"--redis-url", "maxmemory-policy"}},
		"admin port in use":    {[]string{"REPLICATOR_ADMIN_ADDR=" + taken.Addr().String()}, 2, []string{"--admin-addr", "in use"}},
		"missing secret file":  {[]string{"REPLICATOR_POSTGRES_URL=", "REPLICATOR_POSTGRES_URL_FILE=/nonexistent/url"}, 2, []string{"REPLICATOR_POSTGRES_URL_FILE"}},
		"setting of this name": {[]string{"REPLICATOR_REDIS_CA=/nonexistent/ca.pem"}, 2, []string{"--redis-ca"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := testenv.Run(t, binary, w.env(t, c.env...), "run")
			code := p.WaitWithin(t, settle)
			lines := p.Logs()
			if code != c.code || len(lines) == 0 {
				t.Fatalf("exit code %d with %d lines, want %d", code, len(lines), c.code)
			}
			last := lines[len(lines)-1]
			for _, want := range c.want {
				if !strings.Contains(last, want) {
					t.Errorf("the last line does not speak of %q: %s", want, last)
				}
			}
			all := strings.Join(lines, "\n")
			for _, secret := range []string{"s3cret", "wr0ng", "everflag-test"} {
				if strings.Contains(all, secret) {
					t.Errorf("a password is in the log: %s", all)
				}
			}
			if strings.Contains(all, "goroutine ") {
				t.Errorf("a stack trace: %s", all)
			}
		})
	}
}

// F31: a Redis that evicts keys is refused also if it comes up after the replicator.
func TestLateRedisIsJudged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	evicting := testenv.RedisServer(t, testenv.RedisOptions{Conf: map[string]string{"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}})
	wire := testenv.Proxy(t, evicting.Addr)
	wire.Cut()
	p := testenv.Run(t, testenv.Build(t, "cmd/replicator"), w.env(t, "REPLICATOR_REDIS_URL="+wire.URL(evicting.URL)), "run")
	p.WaitForLog(t, "Redis does not answer yet")
	wire.Restore()
	if code := p.WaitWithin(t, settle); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	lines := p.Logs()
	if last := lines[len(lines)-1]; !strings.Contains(last, "maxmemory-policy") || !strings.Contains(last, "--redis-url") {
		t.Errorf("the last line does not name the remedy: %s", last)
	}
}

// TestUnreachableServersAreWaitedFor wants one warning, not an exit, for servers that do not answer yet, and work once they do.
func TestUnreachableServersAreWaitedFor(t *testing.T) { // F23, F73, F75
	t.Parallel()
	w := newWorld(t)
	testenv.AddTeam(t, w.pg, 1, nil)
	postgres, redis := testenv.Proxy(t, addressOf(t, w.pg.URL)), testenv.Proxy(t, w.redis.Addr)
	postgres.Cut()
	redis.Cut()
	p := testenv.Run(t, testenv.Build(t, "cmd/replicator"),
		w.env(t, "REPLICATOR_POSTGRES_URL="+postgres.URL(w.pg.URL), "REPLICATOR_REDIS_URL="+redis.URL(w.redis.URL)), "run")
	p.WaitForLog(t, "Redis does not answer yet")
	p.WaitForLog(t, "no session")
	postgres.Restore()
	redis.Restore()
	w.waitEqual(t)
	warnings := 0
	for _, line := range p.Logs() {
		if strings.Contains(line, `"warn"`) && strings.Contains(line, "no session") {
			warnings++
		}
	}
	if warnings > 2 { // refused, then perhaps closed while the proxy comes back
		t.Errorf("%d warnings about one outage", warnings)
	}
	p.Signal(t, syscall.SIGTERM)
	if code := p.WaitWithin(t, settle); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}

// TestHelp pins the help text, which lists every setting with its variable and default. EVERFLAG_UPDATE=1 writes it anew.
func TestHelp(t *testing.T) {
	t.Parallel()
	testenv.Help(t, "cmd/replicator")
}

// TestCommands drives every command against a running replicator, and those that work without one.
func TestCommands(t *testing.T) { // F72
	t.Parallel()
	w := newWorld(t)
	testenv.LoadSeed(t, w.pg, testenv.Schema2026)
	binary := testenv.Build(t, "cmd/replicator")
	addr := "127.0.0.1:" + testenv.FreePort(t)
	env := w.env(t, "REPLICATOR_ADMIN_ADDR="+addr, "REPLICATOR_ADMIN_URL=http://"+addr)
	run := func(wantCode int, wantOut string, args ...string) {
		t.Helper()
		p := testenv.Run(t, binary, env, args...)
		if code := p.WaitWithin(t, settle); code != wantCode || !strings.Contains(p.Stdout(), wantOut) {
			t.Errorf("%q: exit code %d, want %d; output, in which %q was wanted:\n%s", args, code, wantCode, wantOut, p.Stdout())
		}
	}
	run(0, "replicator dev", "version")
	run(0, "CREATE PUBLICATION", "setup", "--print-sql")
	run(0, "", "check")
	run(0, "", "setup")
	run(0, "", "setup") // idempotent
	run(1, "", "status")
	run(0, "rebuilt: 5 teams", "rebuild") // nobody leads, so it leads itself
	w.waitEqual(t)

	leader := testenv.Run(t, binary, env, "run")
	testenv.Eventually(t, settle, func() error { return get("http://" + addr + "/readyz") })
	run(0, "leader for ", "status")
	run(0, `"role": "leader"`, "status", "--json")
	run(0, "0 teams written", "rebuild")
	run(0, "no drift", "verify")

	// Another slot would take this cache from the leader: check says so before run refuses.
	testenv.Eventually(t, settle, func() error { // as soon as the first heartbeat is there
		other := testenv.Run(t, binary, append(env, "REPLICATOR_SLOT=another_slot"), "check")
		if code := other.WaitWithin(t, settle); code != 2 || !strings.Contains(other.Stdout(), "another replicator writes under the prefix") {
			return fmt.Errorf("exit code %d: %s", code, other.Stdout())
		}
		return nil
	})

	// Drift that nothing but a comparison can see.
	if err := w.cache.HDel(t.Context(), "{"+w.redis.Prefix+"}:team:1", "flag:102").Err(); err != nil {
		t.Fatal(err)
	}
	run(3, "flag 102", "verify")
	run(0, "repaired", "verify", "--repair")
	run(0, "no drift", "verify")
	w.waitEqual(t)
	leader.Signal(t, syscall.SIGTERM)
	if code := leader.WaitWithin(t, settle); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	run(0, "", "teardown")
	if n := testenv.Value[int](t, w.pg, "SELECT count(*)::int FROM pg_replication_slots WHERE slot_name = $1", w.slot); n != 0 {
		t.Errorf("teardown left the slot")
	}
}

func get(url string) error {
	response, err := http.Get(url) //nolint:noctx // because the condition is polled with a deadline
	if err != nil {
		return err
	}
	_ = response.Body.Close() // only the status is of interest
	if response.StatusCode != http.StatusOK {
		return &net.AddrError{Err: response.Status, Addr: url}
	}
	return nil
}
