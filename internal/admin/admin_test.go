package admin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServer(t *testing.T) { // S51
	defer http.DefaultClient.CloseIdleConnections()
	var ready atomic.Bool
	cfg := Config{
		Addr: "127.0.0.1:0",
		Ready: func() error {
			if ready.Load() {
				return nil
			}
			return errors.New("nothing loaded yet")
		},
		Status:   func() any { return map[string]string{"state": "testing"} },
		Registry: NewRegistry(),
		Level:    zap.NewAtomicLevel(),
		Routes: map[string]http.Handler{"POST /extra": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			WriteJSON(w, http.StatusAccepted, "done")
		})},
		Log: zaptest.NewLogger(t),
	}
	server, err := Listen(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := Listen(t.Context(), Config{Addr: server.Addr()}); err == nil {
		_ = second.Close()
		t.Error("two listeners on one address")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()

	expect := func(method, path string, wantCode int, wantBody string) {
		t.Helper()
		request, _ := http.NewRequestWithContext(t.Context(), method, "http://"+server.Addr()+path, http.NoBody)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != wantCode || !strings.Contains(string(body), wantBody) {
			t.Errorf("%s %s = %d %.200q, want %d with %q", method, path, response.StatusCode, body, wantCode, wantBody)
		}
	}
	expect("GET", "/livez", 200, "ok")
	expect("GET", "/readyz", 503, "nothing loaded yet")
	ready.Store(true)
	expect("GET", "/readyz", 200, "ok")
	expect("GET", "/status", 200, `"state": "testing"`)
	expect("GET", "/metrics", 200, "go_goroutines")
	expect("GET", "/log/level", 200, `"level":"info"`)
	expect("GET", "/debug/pprof/", 200, "goroutine")
	expect("POST", "/extra", 202, "done")
	expect("GET", "/nowhere", 404, "")
	foreign, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+server.Addr()+"/extra", http.NoBody)
	foreign.Header.Set("Origin", "http://elsewhere.example") // as browsers do for the page of another site
	if response, err := http.DefaultClient.Do(foreign); err != nil || response.Body.Close() != nil || response.StatusCode != http.StatusForbidden {
		t.Errorf("an order from another site: %v, %v", response, err)
	}
	for _, rebound := range []struct {
		method, path, host string
		code               int
	}{
		{"POST", "/extra", "rebound.example:9464", http.StatusMisdirectedRequest},
		{"GET", "/debug/pprof/", "rebound.example:9464", http.StatusMisdirectedRequest},
		{"GET", "/metrics", "db1.example.com:9464", http.StatusOK},
		{"POST", "/extra", "localhost:9464", http.StatusAccepted},
		{"POST", "/extra", "everflag-replicator.flags.svc.cluster.local:9464", http.StatusAccepted},
	} {
		request, _ := http.NewRequestWithContext(t.Context(), rebound.method, "http://"+server.Addr()+rebound.path, http.NoBody)
		request.Host = rebound.host
		if response, err := http.DefaultClient.Do(request); err != nil || response.Body.Close() != nil || response.StatusCode != rebound.code {
			t.Errorf("%s %s as %s: %v, %v, want %d", rebound.method, rebound.path, rebound.host, response, err, rebound.code)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestPrivateName(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:9464": true, "127.0.0.1": true, "[::1]:9464": true, "[::1]": true, "10.1.2.3:80": true, "localhost:9464": true, "LOCALHOST": true,
		"replicator:9464": true, "a.localhost": true, "db1.local": true, "ip-10-0-0-1.compute.internal:9464": true, "e.flags.svc:9465": true, "": true,
		"evil.example:9464": false, "127.0.0.1.nip.io:9464": false, "localhost.evil.example": false, "evil.example.": false, "local.example": false,
	} {
		if got := privateName(host); got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
}
