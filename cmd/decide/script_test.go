package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/everflag/everflag/internal/browsertest"
	"github.com/everflag/everflag/internal/testenv"
	"github.com/everflag/everflag/internal/testenv/server"
)

// scriptTimeout bounds one step of a script, and the start of what runs it.
const scriptTimeout = 30 * time.Second

// script is a running JavaScript program, Node or a page, that does what the test says.
type script interface {
	// eval runs the body of an async function and returns what it returns, as JSON brings it to T.
	eval(ctx context.Context, body string) ([]byte, error)
}

// do evaluates and gives the result the type that the test wants.
func do[T any](t *testing.T, s script, body string) T {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), scriptTimeout, fmt.Errorf("the script took longer than %v", scriptTimeout))
	defer cancel()
	text, err := s.eval(ctx, body)
	if err != nil {
		t.Fatalf("running %q: %v", body, err)
	}
	var result T
	if len(text) == 0 {
		return result // undefined
	}
	if err := json.Unmarshal(text, &result); err != nil {
		t.Fatalf("running %q: %v, in %s", body, err, text)
	}
	return result
}

// packages is where .ci/clients has put the SDKs.
func packages(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("testdata", "clients"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "posthog-js", "dist", "array.full.js")); err != nil {
		testenv.Missing(t, "no npm packages in testdata/clients: .ci/clients installs them")
	}
	return dir
}

// node is a Node process: see testdata/clients/driver.mjs.
type node struct {
	stdin   io.Writer
	replies <-chan []byte
	ended   <-chan struct{}
	stderr  *strings.Builder // only read once ended
}

// newNode starts Node. It ends with the test, without waiting for timers of SDKs.
func newNode(t *testing.T, s *scene) *node {
	t.Helper()
	binary := testenv.Tool(t, "nodejs", "node")
	cmd := exec.Command(binary, filepath.Join(packages(t), "driver.mjs"))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "NODE_ENV=production"}
	stdin, errIn := cmd.StdinPipe()
	stdout, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut); err != nil {
		t.Fatal(err)
	}
	replies, ended := make(chan []byte), make(chan struct{})
	n := &node{stdin: stdin, replies: replies, ended: ended, stderr: new(strings.Builder)}
	cmd.Stderr = n.stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting node: %v", err)
	}
	release, err := server.Adopt(cmd.Process.Pid)
	if err != nil {
		t.Errorf("telling the reaper of node: %v", err)
		release = func() {}
	}
	go func() {
		defer close(ended)
		defer release()
		for lines := bufio.NewReader(stdout); ; {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				break
			}
			select {
			case replies <- line:
			case <-t.Context().Done():
			}
		}
		_ = cmd.Wait() // killed, as a rule
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
		if t.Failed() {
			t.Logf("node logged:\n%s", n.stderr)
		}
	})
	introduce(t, n, s)
	return n
}

// introduce tells a script where it is.
func introduce(t *testing.T, to script, s *scene) {
	t.Helper()
	do[any](t, to, fmt.Sprintf("Object.assign(globalThis, { host: %q, token: %q, secretKey: %q })", s.URL, token, secret))
}

// reply is a line of the driver.
type reply struct {
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`
}

func (n *node) eval(ctx context.Context, body string) ([]byte, error) {
	line, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	if _, err := n.stdin.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	select {
	case line := <-n.replies:
		var r reply
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		if r.Error != "" {
			return nil, errors.New(r.Error)
		}
		return r.Result, nil
	case <-n.ended:
		return nil, errors.New("node has ended")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// page is a page in Chromium.
type page struct {
	ctx context.Context
	url string

	mu   sync.Mutex
	urls []string // of all requests, also those that went to no front
}

// newPage opens an empty page whose origin is that of no front, so that all that an SDK there asks for is cross-origin, as it is on people's sites.
func newPage(t *testing.T, s *scene) *page {
	t.Helper()
	dir := packages(t)
	site := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(site.Close)

	p := &page{}
	p.ctx = browsertest.Tab(t, p.note, func() { p.checkHosts(t) })
	watch := chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.Enable, network.EnableParams{})
		return err
	})
	if err := chromedp.Do(p.ctx, watch); err != nil {
		t.Fatalf("watching a tab: %v", err)
	}
	p.url = site.URL + "/page.html"
	p.open(t, s)
	return p
}

// open loads the page, again if it was loaded before: scripts begin anew and storage stays.
func (p *page) open(t *testing.T, s *scene) {
	t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.Navigate(p.url)); err != nil {
		t.Fatalf("opening a page: %v", err)
	}
	introduce(t, p, s)
}

// note keeps the address of a request.
func (p *page) note(event any) {
	if request, ok := event.(*network.EventRequestWillBeSent); ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.urls = append(p.urls, request.Request.URL)
	}
}

func (p *page) eval(ctx context.Context, body string) ([]byte, error) {
	type answer struct {
		text []byte
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		a.text, a.err = chromedp.Run(p.ctx, chromedp.Evaluate[[]byte]("(async () => {"+body+"})()", chromedp.EvalAwaitPromise))
		done <- a
	}()
	select {
	case a := <-done:
		return a.text, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// checkHosts holds the page to this machine.
func (p *page) checkHosts(t *testing.T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	outside := slices.DeleteFunc(slices.Clone(p.urls), func(address string) bool {
		u, err := url.Parse(address)
		return err == nil && (u.Hostname() == "127.0.0.1" || u.Scheme == "data" || u.Scheme == "blob")
	})
	if len(outside) > 0 {
		t.Errorf("the page asked for %v", outside)
	}
	if len(p.urls) == 0 {
		t.Error("the page asked for nothing at all: its requests are not seen")
	}
}
