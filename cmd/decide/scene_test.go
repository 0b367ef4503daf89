package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(loadKind); kind != "" { // this process is the load of a test in another one
		os.Exit(runLoad(kind))
	}
	os.Exit(testenv.Main(m))
}

// scene is an installation as SDKs meet it: a cache, a decide that follows it, a decide that found no cache when it started, and the front before them.
type scene struct {
	*front
	cache *cache

	warm, cold string // addresses
	program    *testenv.Program
}

// Definitions of flags.
const (
	flagOn   = `{"filters":{"groups":[{"properties":[],"rollout_percentage":100}]}}`
	flagOff  = `{"filters":{"groups":[{"properties":[],"rollout_percentage":0}]}}`
	flagPlan = `{"filters":{"groups":[{"properties":[{"key":"plan","type":"person","operator":"exact","value":"paid"}],"rollout_percentage":100}]}}`
	flagTier = `{"filters":{"aggregation_group_type_index":0,"groups":[{"properties":[{"key":"tier","type":"group","group_type_index":0,"operator":"exact",
		"value":"gold"}],"rollout_percentage":100}]}}`
	colorBlue = `{"filters":{"groups":[{"properties":[],"rollout_percentage":100}],"multivariate":{"variants":[{"key":"blue","rollout_percentage":100},
		{"key":"red","rollout_percentage":0}]},"payloads":{"blue":"{\"hex\":\"#00f\"}"}}}`
	colorRed = `{"filters":{"groups":[{"properties":[],"rollout_percentage":100}],"multivariate":{"variants":[{"key":"blue","rollout_percentage":0},
		{"key":"red","rollout_percentage":100}]},"payloads":{"blue":"{\"hex\":\"#00f\"}"}}}`

	// wobblyBad asks for what no request carries, so that the flag cannot be computed.
	wobblyBad = `{"filters":{"groups":[{"properties":[{"key":"only_in_the_database","type":"person","operator":"exact","value":"x"}],
		"rollout_percentage":100}]}}`
)

// The flags of every scene, as they begin.
var flags = map[string]string{
	"always": flagOn, "never": flagOff, "by-plan": flagPlan, "by-group": flagTier, "color": colorBlue, "wobbly": flagOn, "leaves": flagOn,
}

// newScene starts the programs and waits until both answer as they should.
func newScene(t *testing.T) *scene {
	t.Helper()
	if testing.Short() {
		t.Skip("real clients take seconds each, and run without -short")
	}
	binary := testenv.Build(t, "cmd/decide")
	full, empty := testenv.Redis(t), testenv.Redis(t)
	s := &scene{front: newFront(t), cache: newCache(t, full)}
	version := s.cache.define(t, flags)
	s.program, s.warm = startDecide(t, binary, full)
	_, s.cold = startDecide(t, binary, empty)
	s.to(s.warm)
	s.awaitVersion(t, version)
	testenv.Eventually(t, 10*time.Second, func() error {
		status, _, err := ask(s.cold)
		if err == nil && status != http.StatusServiceUnavailable {
			err = fmt.Errorf("a decide that never saw a cache answers %d instead of 503", status)
		}
		return err
	})
	return s
}

func startDecide(t *testing.T, binary string, space *testenv.KeySpace) (program *testenv.Program, addr string) {
	t.Helper()
	addr = net.JoinHostPort("127.0.0.1", testenv.FreePort(t))
	admin := net.JoinHostPort("127.0.0.1", testenv.FreePort(t))
	program = testenv.Run(t, binary, nil, "--redis-url", space.URL, "--key-prefix", space.Prefix, "--admin-addr", admin, "serve", "--addr", addr,
		"--drain-delay", "0s")
	return program, addr
}

// change redefines flags and returns when decide serves them.
func (s *scene) change(t *testing.T, flags map[string]string) {
	t.Helper()
	s.awaitVersion(t, s.cache.define(t, flags))
}

// forget removes the team and returns when decide knows that the token is unknown.
func (s *scene) forget(t *testing.T) {
	t.Helper()
	s.cache.removeTeam(t)
	testenv.Eventually(t, 10*time.Second, func() error {
		status, _, err := ask(s.warm)
		if err == nil && status != http.StatusUnauthorized {
			err = fmt.Errorf("status %d for the token of a team that is gone, want 401", status)
		}
		return err
	})
}

func (s *scene) awaitVersion(t *testing.T, version string) {
	t.Helper()
	testenv.Eventually(t, 10*time.Second, func() error {
		_, header, err := ask(s.warm)
		if err == nil && header.Get("X-Everflag-Version") != version {
			err = fmt.Errorf("decide serves version %q, want %q", header.Get("X-Everflag-Version"), version)
		}
		return err
	})
}

// awaitStatus waits until two requests for the path that came after this call are answered so: the SDK has digested the first before it sent the second.
func (s *scene) awaitStatus(t *testing.T, path string, status int) {
	t.Helper()
	before := len(s.seen(path))
	testenv.Eventually(t, 20*time.Second, func() error {
		found := s.seen(path)[before:]
		answered := slices.DeleteFunc(slices.Clone(found), func(e exchange) bool { return e.Status != status })
		if len(answered) < 2 {
			return fmt.Errorf("%d of %d requests for %s were answered %d", len(answered), len(found), path, status)
		}
		return nil
	})
}

// ask sends a plain request, past the front.
func ask(addr string) (status int, header http.Header, err error) {
	body, _ := json.Marshal(map[string]string{"token": token, "distinct_id": "nobody"}) // strings always encode
	request, err := http.NewRequest(http.MethodPost, "http://"+addr+"/flags/?v=2", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	return response.StatusCode, response.Header, response.Body.Close()
}
