package deploy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// process is one decide behind the balancer.
type process struct {
	program     *testenv.Program
	addr, admin string
	ready       atomic.Bool
}

// balancer sends requests in turn to those that are ready, as a Kubernetes service does: it learns of readiness by asking now and then.
type balancer struct {
	mu        sync.Mutex
	processes []*process // guarded by mu
	next      int
}

// interval stands for the period of the chart's readiness probe, and drain for the delay, in the same order of sizes.
const (
	interval = 50 * time.Millisecond
	drain    = 400 * time.Millisecond
)

func (b *balancer) watch(ctx context.Context) {
	for ticker := time.NewTicker(interval); ; {
		select {
		case <-ticker.C:
			for _, p := range b.all() {
				p.ready.Store(get("http://"+p.admin+"/readyz") == nil)
			}
		case <-ctx.Done():
			ticker.Stop()
			return
		}
	}
}

func (b *balancer) all() []*process {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*process(nil), b.processes...)
}

func (b *balancer) pick() *process {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.processes {
		b.next++
		if p := b.processes[b.next%len(b.processes)]; p.ready.Load() {
			return p
		}
	}
	return b.processes[0]
}

// start adds a decide and waits until requests may reach it.
func (b *balancer) start(t *testing.T, redisURL, prefix string) *process {
	t.Helper()
	p := &process{addr: "127.0.0.1:" + testenv.FreePort(t), admin: "127.0.0.1:" + testenv.FreePort(t)}
	p.program = testenv.Run(t, testenv.Build(t, "cmd/decide"), []string{
		"DECIDE_REDIS_URL=" + redisURL, "DECIDE_KEY_PREFIX=" + prefix, "DECIDE_ADDR=" + p.addr, "DECIDE_ADMIN_ADDR=" + p.admin, "DECIDE_DRAIN_DELAY=" + drain.String(),
	})
	b.mu.Lock()
	b.processes = append(b.processes, p)
	b.mu.Unlock()
	testenv.Eventually(t, 20*time.Second, func() error {
		if !p.ready.Load() {
			return fmt.Errorf("the balancer does not see %s ready", p.addr)
		}
		return nil
	})
	return p
}

// TestRollingRestart replaces every decide process under load, a new one first, as the chart's rolling update does: no request fails. S53, S54, S55.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	db, rd := testenv.Postgres(t), testenv.Redis(t)
	testenv.LoadSchema(t, db, testenv.Schema2026)
	testenv.LoadSeed(t, db, testenv.Schema2026)
	admin := "127.0.0.1:" + testenv.FreePort(t)
	testenv.Run(t, testenv.Build(t, "cmd/replicator"), []string{
		"REPLICATOR_POSTGRES_URL=" + db.URL, "REPLICATOR_REDIS_URL=" + rd.URL, "REPLICATOR_KEY_PREFIX=" + rd.Prefix, "REPLICATOR_ADMIN_ADDR=" + admin,
		"REPLICATOR_SLOT=" + rd.Prefix,
	})
	testenv.Eventually(t, 20*time.Second, func() error { return get("http://" + admin + "/readyz") })

	b := &balancer{}
	ctx, cancel := context.WithCancel(t.Context())
	var watching, loading sync.WaitGroup
	watching.Go(func() { b.watch(ctx) })
	defer watching.Wait()
	defer cancel()
	old := []*process{b.start(t, rd.URL, rd.Prefix), b.start(t, rd.URL, rd.Prefix)}

	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", b.pick().addr
	}})
	defer front.Close()
	var asked, failed atomic.Int64
	loadCtx, stopLoad := context.WithCancel(t.Context())
	for range 4 {
		loading.Go(func() {
			for loadCtx.Err() == nil {
				asked.Add(1)
				if err := ask(front.URL); err != nil {
					failed.Add(1)
					t.Error(err)
				}
			}
		})
	}
	for _, p := range old {
		b.start(t, rd.URL, rd.Prefix)
		p.program.Signal(t, syscall.SIGTERM)
		if code := p.program.Wait(t); code != 0 {
			t.Errorf("a decide that was asked to stop exits with %d", code)
		}
	}
	stopLoad()
	loading.Wait()
	if asked.Load() < 200 {
		t.Errorf("only %d requests: no load", asked.Load())
	}
	t.Logf("%d requests, %d failed", asked.Load(), failed.Load())
}

func ask(address string) error {
	body := []byte(`{"token":"` + testenv.DemoToken + `","distinct_id":"ada"}`)
	response, err := http.Post(address+"/flags/?v=2", "application/json", bytes.NewReader(body)) //nolint:gosec,noctx // because it is an address of this test
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // nothing is left in it
	answer, err := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %.200s", response.Status, answer)
	}
	return err
}
