package testenv_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

func TestBalancerPassesByWhoIsNotReady(t *testing.T) {
	t.Parallel()
	var ready [2]atomic.Bool
	backends := make([]*testenv.Backend, 2)
	for i := range backends {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/readyz" && !ready[i].Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_, _ = fmt.Fprint(w, i) // what gets lost is missed below
		}))
		t.Cleanup(s.Close)
		backends[i] = &testenv.Backend{Addr: s.Listener.Addr().String(), Ready: s.URL + "/readyz"}
	}
	b := testenv.Balance(t, backends)
	client := &http.Client{Timeout: soon, Transport: &http.Transport{DisableKeepAlives: true}}
	answers := func() map[string]bool {
		heard := map[string]bool{}
		for range 2 * len(backends) {
			text, err := fetch(t.Context(), client, "http://"+b.Addr)
			want(t, "asking through the balancer", err)
			heard[text] = true
		}
		return heard
	}
	_, err := fetch(t.Context(), client, "http://"+b.Addr)
	wantError(t, "asking with nobody ready", err)
	for i, heard := range []int{1, 2} {
		ready[i].Store(true)
		testenv.Eventually(t, soon, func() error { return expect(backends[i].IsReady(), "backend %d is not ready", i) })
		wantEqual(t, "backends heard", len(answers()), heard)
	}
}

func fetch(ctx context.Context, client *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}
