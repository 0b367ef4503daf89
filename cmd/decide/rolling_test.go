package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// TestRollingRestartOfThree restarts three decide processes one after the other, behind a balancer of TCP connections, under load over connections that are kept,
// and over new ones: no request fails, and no answer is another one. Nobody repeats a request. S53, S54.
func TestRollingRestartOfThree(t *testing.T) {
	t.Parallel()
	space, binary := testenv.Redis(t), testenv.Build(t, "cmd/decide")
	newCache(t, space).define(t, flags)
	programs, backends := make([]*testenv.Program, 3), make([]*testenv.Backend, 3)
	admins := make([]string, 3)
	start := func(i int) {
		t.Helper()
		programs[i] = testenv.Run(t, binary, []string{
			"DECIDE_REDIS_URL=" + space.URL, "DECIDE_KEY_PREFIX=" + space.Prefix, "DECIDE_ADDR=" + backends[i].Addr, "DECIDE_ADMIN_ADDR=" + admins[i], "DECIDE_DRAIN_DELAY=500ms",
		})
	}
	for i := range backends {
		admins[i] = "127.0.0.1:" + testenv.FreePort(t)
		backends[i] = &testenv.Backend{Addr: "127.0.0.1:" + testenv.FreePort(t), Ready: "http://" + admins[i] + "/readyz"}
		start(i)
	}
	b := testenv.Balance(t, backends)
	awaitReady := func(to *testenv.Backend) {
		t.Helper()
		testenv.Eventually(t, settle, func() error {
			if !to.IsReady() {
				return fmt.Errorf("%s is not ready", to.Addr)
			}
			return nil
		})
	}
	for _, to := range backends {
		awaitReady(to)
	}

	var asked, failed, moved atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var loading sync.WaitGroup
	defer loading.Wait()
	defer stop()
	want := keyless{}
	want.set(t, b.Addr)
	for n := range 6 {
		loading.Go(func() {
			client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: n%3 == 0, MaxIdleConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				asked.Add(1)
				last, err := want.check(client, b.Addr)
				if err != nil {
					failed.Add(1)
					t.Error(err)
				}
				if last {
					moved.Add(1)
				}
			}
		})
	}
	for i, p := range slices.Clone(programs) {
		p.Signal(t, syscall.SIGTERM)
		if code := p.WaitWithin(t, settle); code != 0 {
			t.Errorf("decide %d: exit code %d after SIGTERM", i, code)
		}
		start(i)
		awaitReady(backends[i])
	}
	stop()
	loading.Wait()
	t.Logf("%d requests, %d failed, %d asked to connect anew", asked.Load(), failed.Load(), moved.Load())
	if asked.Load() < 300 {
		t.Errorf("only %d requests: no load", asked.Load())
	}
}

// keyless is the answer to a user, without what differs from request to request.
type keyless struct{ flags string }

func (k *keyless) set(t *testing.T, addr string) {
	t.Helper()
	testenv.Eventually(t, settle, func() (err error) {
		k.flags, _, err = flagsOf(http.DefaultClient, addr)
		return err
	})
}

// check asks once more; last reports that the server wants the connection to be closed.
func (k *keyless) check(client *http.Client, addr string) (last bool, err error) {
	got, last, err := flagsOf(client, addr)
	if err == nil && got != k.flags {
		err = fmt.Errorf("the answer changed\nfrom %s\nto   %s", k.flags, got)
	}
	return last, err
}

func flagsOf(client *http.Client, addr string) (flags string, last bool, err error) {
	// POST is not repeated by the client if its connection ends.
	response, err := client.Post("http://"+addr+"/flags/?v=2", "application/json", strings.NewReader(`{"token":"`+token+`","distinct_id":"ada"}`)) //nolint:noctx // because the client has a time-out
	if err != nil {
		return "", false, err
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // it has been read
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %.200s", response.Status, text)
	}
	start := strings.Index(string(text), `"flags":`)
	end := strings.LastIndex(string(text), `"requestId"`)
	if err == nil && (start < 0 || end < start) {
		err = fmt.Errorf("no flags in %s", text)
	}
	if err != nil {
		return "", false, err
	}
	return string(text[start:end]), response.Close, nil
}
