package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/testenv"
)

const settle = 20 * time.Second

// TestWrongSettings wants one line that names the setting, exit code 2 and no secret.
func TestWrongSettings(t *testing.T) {
	t.Parallel()
	binary := testenv.Build(t, "cmd/decide")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("no such thing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"no redis url":     {[]string{"DECIDE_REDIS_URL="}, "--redis-url"},
		"bad redis url":    {[]string{"DECIDE_REDIS_URL=https://u:s3cret@x"}, "--redis-url"},
		"address in use":   {[]string{"DECIDE_ADDR=" + taken.Addr().String()}, "--addr"},
		"admin in use":     {[]string{"DECIDE_ADMIN_ADDR=" + taken.Addr().String()}, "--admin-addr"},
		"empty prefix":     {[]string{"DECIDE_KEY_PREFIX="}, "--key-prefix: must not be empty"},
		"no file either":   {[]string{"DECIDE_REDIS_URL=", "DECIDE_SNAPSHOT_FILE=" + garbage + ".missing"}, "--redis-url: is not set, and --snapshot-file"},
		"memory":           {[]string{"DECIDE_MAX_MEMORY=plenty"}, "--max-memory"},
		"no memory":        {[]string{"DECIDE_MAX_MEMORY=0"}, "--max-memory"},
		"regex timeout":    {[]string{"DECIDE_REGEX_TIMEOUT=0s"}, "--regex-timeout"},
		"stale":            {[]string{"DECIDE_STALE_AFTER=0s"}, "--stale-after"},
		"concurrency":      {[]string{"DECIDE_MAX_CONCURRENT=-1"}, "--max-concurrent"},
		"client rate":      {[]string{"DECIDE_RATE_LIMIT_CLIENT=0"}, "--rate-limit-client"},
		"token rate":       {[]string{"DECIDE_RATE_LIMIT_TOKEN=-1"}, "--rate-limit-token"},
		"drain delay":      {[]string{"DECIDE_DRAIN_DELAY=-1s"}, "--drain-delay"},
		"rules":            {[]string{"DECIDE_RULES=2019"}, "--rules"},
		"proxies":          {[]string{"DECIDE_TRUSTED_PROXIES=proxy.example"}, "--trusted-proxies"},
		"certificate":      {[]string{"DECIDE_TLS_CERT=" + garbage, "DECIDE_TLS_KEY=" + garbage}, "--tls-cert"},
		"key without cert": {[]string{"DECIDE_TLS_KEY=" + garbage}, "--tls-cert"},
		"geoip":            {[]string{"DECIDE_GEOIP_DB=" + garbage}, "--geoip-db"},
		"definition keys":  {[]string{"DECIDE_DEFINITIONS_KEY_FILE=" + garbage}, "--definitions-key-file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := []string{
				"DECIDE_REDIS_URL=redis://127.0.0.1:1", "DECIDE_ADDR=127.0.0.1:" + testenv.FreePort(t), "DECIDE_ADMIN_ADDR=127.0.0.1:" + testenv.FreePort(t),
			}
			p := testenv.Run(t, binary, append(env, c.env...))
			code, lines := p.WaitWithin(t, settle), p.Logs()
			if code != 2 || len(lines) == 0 || !strings.Contains(lines[len(lines)-1], c.want) {
				t.Errorf("exit code %d, want 2 and a last line with %q: %q", code, c.want, lines)
			}
			if all := strings.Join(lines, "\n"); strings.Contains(all, "s3cret") || strings.Contains(all, "goroutine ") {
				t.Errorf("a secret or a stack trace: %s", all)
			}
		})
	}
}

// TestHelp pins the help text, which lists every setting with its variable and default. EVERFLAG_UPDATE=1 writes it anew.
func TestHelp(t *testing.T) {
	t.Parallel()
	testenv.Help(t, "cmd/decide")
}

// TestCommands runs status and eval, against a running decide, from Redis and from the snapshot file alone.
func TestCommands(t *testing.T) {
	t.Parallel()
	space := testenv.Redis(t)
	c := newCache(t, space)
	c.define(t, map[string]string{
		"for-gold": `{"filters":{"groups":[{"properties":[{"key":"plan","type":"person","operator":"exact","value":"gold"}],"rollout_percentage":100}]}}`,
	})
	binary := testenv.Build(t, "cmd/decide")
	admin, file := "127.0.0.1:"+testenv.FreePort(t), filepath.Join(t.TempDir(), "decide.snapshot")
	redis := []string{"DECIDE_REDIS_URL=" + space.URL, "DECIDE_KEY_PREFIX=" + space.Prefix}
	served := append(redis, "DECIDE_ADDR=127.0.0.1:"+testenv.FreePort(t), "DECIDE_ADMIN_ADDR="+admin, "DECIDE_ADMIN_URL=http://"+admin,
		"DECIDE_SNAPSHOT_FILE="+file, "DECIDE_DRAIN_DELAY=0s")
	run := func(env []string, wantCode int, wantOut string, args ...string) {
		t.Helper()
		p := testenv.Run(t, binary, env, args...)
		if code := p.WaitWithin(t, settle); code != wantCode || !strings.Contains(p.Stdout(), wantOut) {
			t.Errorf("%q: exit code %d, want %d; output, in which %q was wanted:\n%s", args, code, wantCode, wantOut, p.Stdout())
		}
	}
	run(served, 0, "decide dev", "version")
	run(served, 1, "", "status")
	run([]string{"DECIDE_SNAPSHOT_FILE=" + file}, 2, "", "eval", token, "ada") // neither Redis nor the file is there
	run(served, 2, "", "status", "--admin-url", "localhost")
	run(served, 0, `"program": "decide"`, "version", "--json")
	run(served, 0, "complete -o default -F _decide decide", "completion", "bash")
	p := testenv.Run(t, binary, served)
	testenv.Eventually(t, settle, func() error { return ready200("http://" + admin + "/readyz") })
	run(served, 0, "1 team ", "status")
	run(served, 0, "following Redis", "status")
	run(served, 0, `"source": "redis"`, "status", "--json")
	p.Signal(t, syscall.SIGTERM)
	if code := p.WaitWithin(t, settle); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	for source, env := range map[string][]string{"from Redis": redis, "from the snapshot file " + file: {"DECIDE_SNAPSHOT_FILE=" + file, "DECIDE_KEY_PREFIX=" + space.Prefix}} {
		run(env, 0, "for-gold", "eval", token, "ada", "--properties", `{"plan":"gold"}`)
		run(env, 0, source, "eval", token, "ada")
		run(env, 0, `"enabled": true`, "eval", token, "ada", "--properties", `{"plan":"gold"}`, "--json", "--flag", "for-gold")
		run(env, 0, "unknown", "eval", token, "ada")
		run(env, 1, "", "eval", "phc_of_nobody", "ada")
		run(env, 1, "", "eval", token, "ada", "--flag", "no-such-flag")
		run(env, 2, "", "eval", token)
		run(env, 2, "", "eval", token, "ada", "--properties", "plan=gold")
	}
}

// TestEvalWaitsForCertainty: what eval says of position, age and unknown tokens is what a running decide would, though it has only just started.
func TestEvalWaitsForCertainty(t *testing.T) {
	t.Parallel()
	space := testenv.Redis(t)
	c := newCache(t, space)
	c.define(t, map[string]string{"plain": `{"filters":{"groups":[{"rollout_percentage":100}]}}`})
	eval := func(token string, wantCode int, wantLast string, wantTexts ...string) {
		t.Helper()
		p := testenv.Run(t, testenv.Build(t, "cmd/decide"), []string{"DECIDE_REDIS_URL=" + space.URL, "DECIDE_KEY_PREFIX=" + space.Prefix}, "eval", token, "ada")
		code := p.WaitWithin(t, settle)
		if last := strings.Join(p.Logs(), "\n"); code != wantCode || !strings.HasSuffix(last, wantLast) {
			t.Errorf("exit code %d, want %d; %q, want %q at its end", code, wantCode, last, wantLast)
		}
		for _, text := range wantTexts {
			if !strings.Contains(p.Stdout(), text) {
				t.Errorf("no %q in\n%s", text, p.Stdout())
			}
		}
	}
	eval(token, 0, "", "up to date", fmt.Sprintf("position     0/%X in the log", c.lsn))
	eval("phc_of_nobody", 1, "decide answers 401")
	c.silence()
	if err := c.client.HSet(t.Context(), c.keys.Meta, flagcache.MetaHeartbeat, time.Now().Add(-2*time.Hour).UnixMilli()).Err(); err != nil {
		t.Fatal(err)
	}
	eval(token, 0, "", "2 h 0 min old: no replicator confirms")
	eval("phc_of_nobody", 1, "decide answers 503")
}

func ready200(url string) error {
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
