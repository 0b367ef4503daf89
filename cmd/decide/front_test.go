package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// front stands where an installation has its load balancer: SDKs talk to it, and it passes on what they say, to the decide that the test chooses. It keeps
// a record of every exchange. What SDKs send to PostHog's capture endpoints, which are no business of decide, it takes and answers itself.
type front struct {
	URL string

	mu        sync.Mutex // guards what follows
	backend   http.Handler
	exchanges []exchange
}

// exchange is one request of an SDK and the answer it got.
type exchange struct {
	Method, Path string
	Query        url.Values
	Header       http.Header
	Body         map[string]any // decoded; nil if there was none or it is no JSON object
	Status       int
	Answer       []byte
}

// newFront starts a front without a backend.
func newFront(t testing.TB) *front {
	t.Helper()
	f := &front{}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.URL = server.URL
	f.cut()
	return f
}

// to passes requests on to a decide at the address.
func (f *front) to(address string) {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	proxy.Transport = &http.Transport{DisableKeepAlives: true, DisableCompression: true} // bytes pass as they are, and nothing stays behind
	f.set(proxy)
}

// cut breaks every connection without an answer.
func (f *front) cut() {
	f.set(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
}

// say answers everything itself: for what PostHog can say and decide never does.
func (f *front) say(status int, body string) {
	f.set(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // the client is gone, then
	}))
}

func (f *front) set(backend http.Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.backend = backend
}

// capturePaths are where SDKs send events to.
var capturePaths = []string{"/batch/", "/capture/", "/e/", "/i/v0/e/", "/i/v1/analytics/events", "/engage/", "/i/v1/metrics", "/i/v1/logs"}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if slices.ContainsFunc(capturePaths, func(p string) bool { return strings.HasPrefix(r.URL.Path, p) }) {
		allowOrigin(w, r)
		_, _ = io.WriteString(w, `{"status":1}`) // the client is gone, then
		return
	}
	seen := exchange{Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Header: r.Header.Clone(), Body: decodeBody(r, body)}
	f.mu.Lock()
	backend := f.backend
	f.mu.Unlock()
	answer := &recorder{ResponseWriter: w}
	defer func() {
		seen.Status, seen.Answer = answer.status, answer.body.Bytes()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.exchanges = append(f.exchanges, seen)
	}()
	r.Body = io.NopCloser(bytes.NewReader(body))
	backend.ServeHTTP(answer, r)
}

func allowOrigin(w http.ResponseWriter, r *http.Request) {
	if origin := r.Header.Get("Origin"); origin != "" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
	}
}

// recorder keeps a copy of an answer on its way.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	r.body.Write(b)
	return r.ResponseWriter.Write(b)
}

// decodeBody undoes what SDKs do to a body: gzip, and base64 in a form.
func decodeBody(r *http.Request, body []byte) map[string]any {
	if bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		if reader, err := gzip.NewReader(bytes.NewReader(body)); err == nil {
			if plain, err := io.ReadAll(reader); err == nil {
				body = plain
			}
		}
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		if form, err := url.ParseQuery(string(body)); err == nil {
			if plain, err := base64.StdEncoding.DecodeString(form.Get("data")); err == nil {
				body = plain
			}
		}
	}
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil {
		return nil
	}
	return object
}

// seen returns the exchanges on the path so far.
func (f *front) seen(path string) []exchange {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.exchanges), func(e exchange) bool { return e.Path != path })
}

// await returns the n-th exchange on the path, waiting for it if need be.
func (f *front) await(t testing.TB, path string, n int) exchange {
	t.Helper()
	var found []exchange
	testenv.Eventually(t, 10*time.Second, func() error {
		if found = f.seen(path); len(found) < n {
			return fmt.Errorf("%d of %d requests for %s; others: %v", len(found), n, path, f.paths())
		}
		return nil
	})
	return found[n-1]
}

// last returns the last exchange on the path.
func (f *front) last(t testing.TB, path string) exchange {
	t.Helper()
	found := f.seen(path)
	if len(found) == 0 {
		t.Fatalf("no request for %s, but for %v", path, f.paths())
	}
	return found[len(found)-1]
}

// paths are the paths that were asked for, each once.
func (f *front) paths() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var paths []string
	for _, e := range f.exchanges {
		paths = append(paths, e.Path)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
