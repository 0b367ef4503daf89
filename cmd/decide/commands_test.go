package main

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

const settle = 20 * time.Second

// waitCode waits for the end of a program that has to end by itself.
func waitCode(t *testing.T, p *testenv.Program) int {
	t.Helper()
	select {
	case <-p.Ended():
		return p.Wait(t)
	case <-time.After(settle):
		t.Fatal("it did not end")
		return -1
	}
}

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
		"memory":           {[]string{"DECIDE_MAX_MEMORY=plenty"}, "--max-memory"},
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
			code, lines := waitCode(t, p), p.Logs()
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
	p := testenv.Run(t, testenv.Build(t, "cmd/decide"), nil, "--help")
	if code := waitCode(t, p); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	const path = "testdata/help.golden"
	if os.Getenv("EVERFLAG_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(p.Stdout()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if p.Stdout() != string(want) {
		t.Errorf("it differs from %s:\n%s", path, p.Stdout())
	}
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
		if code := waitCode(t, p); code != wantCode || !strings.Contains(p.Stdout(), wantOut) {
			t.Errorf("%q: exit code %d, want %d; output, in which %q was wanted:\n%s", args, code, wantCode, wantOut, p.Stdout())
		}
	}
	run(served, 0, "decide dev", "version")
	run(served, 1, "", "status")
	p := testenv.Run(t, binary, served)
	testenv.Eventually(t, settle, func() error { return ready200("http://" + admin + "/readyz") })
	run(served, 0, "1 teams", "status")
	run(served, 0, `"source": "redis"`, "status", "--json")
	p.Signal(t, syscall.SIGTERM)
	if code := waitCode(t, p); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	for _, env := range [][]string{redis, {"DECIDE_SNAPSHOT_FILE=" + file, "DECIDE_KEY_PREFIX=" + space.Prefix}} {
		run(env, 0, "for-gold", "eval", token, "ada", "--properties", `{"plan":"gold"}`)
		run(env, 0, `"enabled": true`, "eval", token, "ada", "--properties", `{"plan":"gold"}`, "--json", "--flag", "for-gold")
		run(env, 0, "unknown", "eval", token, "ada")
		run(env, 1, "", "eval", "phc_of_nobody", "ada")
		run(env, 1, "", "eval", token, "ada", "--flag", "no-such-flag")
		run(env, 2, "", "eval", token)
		run(env, 2, "", "eval", token, "ada", "--properties", "plan=gold")
	}
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
