package docs_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// patience bounds waiting for programs on a busy machine.
const patience = 20 * time.Second

// source is a database and a Redis that a replicator fills.
type source struct {
	db    *testenv.DB
	redis *testenv.KeySpace
}

// newSource starts a replicator over PostHog's tables with the demo teams.
func newSource(t *testing.T) *source {
	t.Helper()
	s := emptySource(t)
	admin := "127.0.0.1:" + testenv.FreePort(t)
	testenv.Run(t, testenv.Build(t, "cmd/replicator"), append(s.settings(t), "REPLICATOR_ADMIN_ADDR="+admin), "run")
	testenv.Eventually(t, patience, func() error { return wantStatus("http://"+admin+"/readyz", http.StatusOK) })
	return s
}

// emptySource is the same without a replicator.
func emptySource(t *testing.T) *source {
	t.Helper()
	s := &source{db: testenv.Postgres(t), redis: testenv.Redis(t)}
	testenv.LoadSchema(t, s.db, testenv.Schema2026)
	testenv.LoadSeed(t, s.db, testenv.Schema2026)
	return s
}

// settings are the environment of both programs. Slots belong to the whole server, so each source has its own name for them.
func (s *source) settings(t *testing.T) []string {
	t.Helper()
	name := testenv.Value[string](t, s.db, "SELECT current_database()::text")
	return []string{
		"REPLICATOR_POSTGRES_URL=" + s.db.URL, "REPLICATOR_REDIS_URL=" + s.redis.URL, "REPLICATOR_KEY_PREFIX=" + s.redis.Prefix,
		"REPLICATOR_SLOT=" + name, "REPLICATOR_PUBLICATION=" + name, "REPLICATOR_APPLICATION_NAME=" + name, "REPLICATOR_ADMIN_ADDR=127.0.0.1:0",
		"DECIDE_REDIS_URL=" + s.redis.URL, "DECIDE_KEY_PREFIX=" + s.redis.Prefix, "DECIDE_ADMIN_ADDR=127.0.0.1:0", "DECIDE_ADDR=127.0.0.1:0", "DECIDE_DRAIN_DELAY=0s",
	}
}

// decide starts decide on an address of this machine and waits until it answers its private listener.
func (s *source) decide(t *testing.T, host, port, adminPort string, env ...string) *testenv.Program {
	t.Helper()
	env = append(append(s.settings(t), "DECIDE_ADDR="+host+":"+port, "DECIDE_ADMIN_ADDR="+host+":"+adminPort), env...)
	p := testenv.Run(t, testenv.Build(t, "cmd/decide"), env, "serve")
	testenv.Eventually(t, patience, func() error { return wantStatus("http://"+host+":"+adminPort+"/livez", http.StatusOK) })
	return p
}

func wantStatus(address string, status int) error {
	response, err := http.Get(address) //nolint:gosec,noctx // because it is an address of this test, which bounds it
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // nothing is left in it
	body, err := io.ReadAll(response.Body)
	if response.StatusCode != status {
		return fmt.Errorf("%s: %s %.200s, want %d", address, response.Status, body, status)
	}
	return err
}

// ask sends a request for flags and returns who answered: "decide", "posthog", or the status of a proxy that had nobody.
func ask(method, address, path string) (string, error) {
	var body io.Reader = http.NoBody
	if method == http.MethodPost {
		body = strings.NewReader(requestBody)
	}
	request, err := http.NewRequest(method, address+path, body) //nolint:noctx // because the client has a timeout
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+testenv.DemoToken) // for OFREP
	if strings.Contains(path, "definitions") || strings.Contains(path, "local_evaluation") {
		request.Header.Set("Authorization", "Bearer "+testenv.DemoSecret)
	}
	response, err := impatient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }() // nothing is left in it
	if _, err := io.ReadAll(response.Body); err != nil {
		return "", err
	}
	switch {
	case response.Header.Get(fakeHeader) != "" && response.Header.Get("X-Everflag-Version") != "":
		return "", errors.New("two answered")
	case response.Header.Get(fakeHeader) != "":
		return "posthog", nil
	case response.Header.Get("X-Everflag-Version") != "":
		return "decide", nil
	}
	return response.Status, nil
}

// requestBody is what clients send.
const requestBody = `{"token":"` + testenv.DemoToken + `","distinct_id":"ada","context":{"targetingKey":"ada"}}`

// impatient is a client that keeps no connections.
var impatient = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
