package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const requestPath = "/flags/?v=2"

// request is a flag request in the forms that the generators take.
type request struct {
	body   string
	script string // file for wrk; empty: bench/load in any case
	raw    string // file for bench/load
}

func requestBody(token string) string {
	return fmt.Sprintf(`{"token":%q,"distinct_id":"0190a9f2-51aa-7d50-a5b5-0c5c1f0c3b11","groups":{},"person_properties":{"plan":"pro","age":42,`+
		`"email":"someone@example.com","country":"DE","$os":"Linux","$browser":"Firefox"},"timezone":"Europe/Berlin"}`, token)
}

// wrkScript sends the request, and prints what wrk found as bench/load does.
const wrkScript = `wrk.method = "POST"
wrk.path = "%s"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["User-Agent"] = "posthog-go/1.5.2"
wrk.body = [[%s]]
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests":%%d,"errors":%%d,"seconds":%%f,"p50_ms":%%f,"p99_ms":%%f}\n', summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
`

func (h *harness) newRequest(name, token string) (request, error) {
	r := request{body: requestBody(token), script: filepath.Join(h.dir, name+".lua"), raw: filepath.Join(h.dir, name+".http")}
	if err := os.WriteFile(r.script, fmt.Appendf(nil, wrkScript, requestPath, r.body), 0o600); err != nil {
		return r, err
	}
	text := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nUser-Agent: posthog-go/1.5.2\r\nContent-Length: %d\r\n\r\n%s",
		requestPath, len(r.body), r.body)
	return r, os.WriteFile(r.raw, []byte(text), 0o600)
}

// loaded is what a load generator found.
type loaded struct {
	Requests float64 `json:"requests"`
	Errors   int     `json:"errors"`
	Seconds  float64 `json:"seconds"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
}

func (l loaded) rate() float64 { return l.Requests / l.Seconds }

const connections = 16

// saturate sends as many requests as go.
func (h *harness) saturate(ctx context.Context, addr string, r request, span time.Duration) (loaded, error) {
	if h.wrk == "" || r.script == "" {
		return h.generate(ctx, h.binary("load"), "-addr", addr, "-request", r.raw, "-connections", fmt.Sprint(connections), "-for", span.String())
	}
	return h.generate(ctx, h.wrk, "-t1", fmt.Sprintf("-c%d", connections), fmt.Sprintf("-d%.0fs", max(1, span.Seconds())), "-s", r.script, "http://"+addr)
}

// hold sends requests at a rate. Where that is permitted the generator goes before all else on its core, such as Redis: a request that it sends or sees late
// would be counted as late by the server.
func (h *harness) hold(ctx context.Context, addr string, r request, rate float64, span time.Duration) (loaded, error) {
	argv := []string{h.binary("load"), "-addr", addr, "-request", r.raw, "-connections", fmt.Sprint(connections), "-rate", fmt.Sprint(rate), "-for", span.String()}
	if h.realtime {
		argv = append(slices.Clone(realtime), argv...)
	}
	return h.generate(ctx, argv...)
}

// realtime runs a command line with a priority above all that have none of this kind.
var realtime = []string{"chrt", "--fifo", "1"}

func (h *harness) generate(ctx context.Context, argv ...string) (loaded, error) {
	argv = h.on(loadCPU, argv)
	text, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		return loaded{}, fmt.Errorf("running %s: %w", filepath.Base(argv[0]), err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	var l loaded
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &l); err != nil {
		return l, fmt.Errorf("reading what %s found: %w", filepath.Base(argv[0]), err)
	}
	if l.Errors > 0 || l.Requests == 0 {
		return l, fmt.Errorf("%d of %.0f requests failed", l.Errors, l.Requests)
	}
	return l, nil
}

// sample asks once and returns the answer's body and headers.
func sample(ctx context.Context, addr string, r request) ([]byte, http.Header, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+requestPath, strings.NewReader(r.body))
	if err != nil {
		return nil, nil, err
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("User-Agent", "posthog-go/1.5.2")
	response, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		return nil, nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s answers %s: %.200s", addr, response.Status, body.String())
	}
	return body.Bytes(), response.Header, nil
}

// floor starts the constant server with an answer's body and headers.
func (h *harness) floor(ctx context.Context, body []byte, headers http.Header, addr string) (*process, error) {
	answer, fixed := filepath.Join(h.dir, "answer"), filepath.Join(h.dir, "headers")
	if err := os.WriteFile(answer, body, 0o600); err != nil {
		return nil, err
	}
	var lines []string
	for name, values := range headers {
		if name != "Date" { // net/http adds it by itself
			lines = append(lines, name+": "+values[0])
		}
	}
	slices.Sort(lines)
	if err := os.WriteFile(fixed, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		return nil, err
	}
	p, err := h.start(serverCPU, []string{"GOMAXPROCS=1"}, h.binary("nethttp"), "-addr", addr, "-answer", answer, "-headers", fixed)
	if err != nil {
		return nil, err
	}
	return p, poll(ctx, 10*time.Second, "the constant server to answer", func() (bool, error) {
		response, err := http.Get("http://" + addr)
		if err == nil {
			_ = response.Body.Close() // that it answers is all
		}
		return err == nil, nil
	})
}
