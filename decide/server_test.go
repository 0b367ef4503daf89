package decide

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/everflag/everflag/decide/eval"
)

// serve runs the handler behind NewServer until the test ends and returns its address and what stops it.
func serve(t *testing.T, cfg ServerConfig, stop Stop, h *Handler) (addr string, cancel func(), done <-chan error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	var finished sync.WaitGroup
	finished.Go(func() { result <- Serve(ctx, NewServer(cfg, h, zap.NewNop()), listener, stop) })
	t.Cleanup(func() {
		cancel()
		finished.Wait()
	})
	return listener.Addr().String(), cancel, result
}

// dial connects and sends text.
func dial(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

func post(body string, length int) string {
	return fmt.Sprintf("POST /flags/?v=2 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", length, body)
}

// Whoever sends slowly is cut off, holds no slot meanwhile, and keeps nobody else waiting.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	h, _ := newTestHandler(t, Config{MaxConcurrent: 1}, everyone("on"))
	addr, _, _ := serve(t, ServerConfig{ReadHeaderTimeout: 200 * time.Millisecond, ReadTimeout: 400 * time.Millisecond, WriteTimeout: time.Second}, Stop{}, h)
	var slow []net.Conn
	for range 20 {
		slow = append(slow, dial(t, addr, "POST /flags/ HTTP/1.1\r\nHost: x\r\nX-Slow: "), dial(t, addr, post(anyone[:10], len(anyone))))
	}
	quick := dial(t, addr, post(anyone, len(anyone)))
	if answer, err := http.ReadResponse(bufio.NewReader(quick), nil); err != nil || answer.StatusCode != 200 {
		t.Errorf("beside slow clients: %v, %v", answer, err)
	}
	for i, conn := range slow {
		answer, err := io.ReadAll(conn)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("slow client %d was not cut off", i)
		}
		if status, _, _ := strings.Cut(string(answer), "\r\n"); status != "" && !strings.Contains(status, " 400 ") && !strings.Contains(status, " 408 ") {
			t.Errorf("slow client %d: got %q", i, status)
		}
	}
}

func TestHeaderFlood(t *testing.T) {
	t.Parallel()
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	addr, _, _ := serve(t, ServerConfig{}, Stop{}, h)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { // the server stops reading early: an error here is what we want
		_, _ = io.WriteString(conn, "POST /flags/ HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("X-Flood: "+strings.Repeat("x", 1000)+"\r\n", 1000))
	})
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %v, %v", answer, err)
	}
}

// Stopping in order: not ready first, then still serving while answers ask clients to leave, then done. S54.
func TestServeDrains(t *testing.T) {
	t.Parallel()
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	notReady := make(chan struct{})
	addr, cancel, done := serve(t, ServerConfig{}, Stop{NotReady: func() { close(notReady) }, Delay: 300 * time.Millisecond}, h)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	request := func() (*http.Response, error) {
		answer, err := client.Post("http://"+addr+"/flags/?v=2", "application/json", strings.NewReader(anyone))
		if err == nil {
			_, err = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
		}
		return answer, err
	}
	if answer, err := request(); err != nil || answer.Close {
		t.Fatalf("before: %v, %v", answer, err)
	}
	cancel()
	<-notReady
	answer, err := request()
	if err != nil || answer.StatusCode != 200 || !answer.Close {
		t.Fatalf("while draining: %v, %v", answer, err)
	}
	if err := <-done; err != nil {
		t.Errorf("stopped with %v", err)
	}
	if _, err := request(); err == nil {
		t.Error("still serving after the end")
	}
}

// blockedSource lets a request in and does not let it go.
type blockedSource struct {
	Source
	entered, release chan struct{}
}

func (s blockedSource) Program(token string) (*eval.Program, Lookup) {
	close(s.entered)
	<-s.release
	return s.Source.Program(token)
}

func TestServeCutsOffAtTheDeadline(t *testing.T) {
	t.Parallel()
	source := blockedSource{newFakeSource(eval.RulesCurrent), make(chan struct{}), make(chan struct{})}
	h, _ := newHandler(t, Config{}, source)
	addr, cancel, done := serve(t, ServerConfig{}, Stop{Timeout: 50 * time.Millisecond}, h)
	dial(t, addr, post(anyone, len(anyone)))
	<-source.entered
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "did not end in time") {
		t.Errorf("stopped with %v", err)
	}
	close(source.release)
}

func TestServeReportsFailure(t *testing.T) {
	t.Parallel()
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if err := Serve(t.Context(), NewServer(ServerConfig{}, h, zap.NewNop()), listener, Stop{}); err == nil {
		t.Error("a closed listener was served")
	}
}

func TestIdleTimeoutIsLongerThanPolls(t *testing.T) { // S55
	if idle := NewServer(ServerConfig{}, nil, zap.NewNop()).IdleTimeout; idle < 2*time.Minute {
		t.Errorf("idle connections end after %v", idle)
	}
}

// The conversations of the mobile SDKs, replayed from the contract, not observed: config with the flags, gzip, numbers that are not finite; older ones ask
// /decide.
func TestMobileConversations(t *testing.T) {
	h, _ := newTestHandler(t, Config{}, everyone("on"), plan("pro-only"))
	const body = `{"api_key":"phc_test","distinct_id":"u","$anon_distinct_id":"a","$device_id":"d","groups":{},"person_properties":{"plan":"pro","$app_version":"1.0","score":NaN},"group_properties":{}}`
	for _, agent := range []string{"posthog-ios/3.30.0", "posthog-android/3.20.0", "posthog-flutter/5.0.0", "posthog-react-native/4.1.0"} {
		got := jsonOf(t, call(h, "POST", "/flags/?v=2&config=true", body, "User-Agent", agent, "Content-Type", "application/json; charset=utf-8"))
		flags, _ := got["flags"].(map[string]any)
		if got["errorsWhileComputingFlags"] != false || len(flags) != 2 || flags["pro-only"].(map[string]any)["enabled"] != true || got["sessionRecording"] != false {
			t.Errorf("%s: got %v", agent, got)
		}
		old := jsonOf(t, call(h, "POST", "/decide/?v=3", body, "User-Agent", agent, "Content-Type", "application/json"))
		values, _ := old["featureFlags"].(map[string]any)
		if _, payloads := old["featureFlagPayloads"].(map[string]any); !payloads || values["pro-only"] != true || old["supportedCompression"] == nil {
			t.Errorf("%s, /decide: got %v", agent, old)
		}
	}
}
