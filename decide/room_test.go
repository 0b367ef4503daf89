package decide

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// largeBody is a request of that many bytes.
func largeBody(n int) string { return anyone + strings.Repeat(" ", n-len(anyone)) }

// roomOf is the room that the bodies of a handler share.
func roomOf(h *Handler) *room { return h.exchanges.New().(*exchange).body.room }

// When too many large bodies are there, one more is turned away and small ones are not; a place is free again however a request ends. S35, S42, S49.
func TestLargeBodiesAreFew(t *testing.T) {
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	r := roomOf(h)
	r.large.Add(maxLargeBodies)
	w := call(h, "POST", "/flags/?v=2", largeBody(keptBuffer))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || testutil.ToFloat64(h.metrics.busy) != 1 {
		t.Errorf("full: got %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	if w := call(h, "POST", "/flags/?v=2", largeBody(keptBuffer-1)); w.Code != http.StatusOK {
		t.Errorf("a small body beside them: got %d", w.Code)
	}
	r.large.Add(-1)
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"good":         {largeBody(maxWireBody), http.StatusOK},
		"too large":    {largeBody(maxWireBody + 1), http.StatusRequestEntityTooLarge},
		"no JSON":      {strings.Repeat("x", keptBuffer), http.StatusBadRequest},
		"unknown":      {`{"token":"nobody","distinct_id":"` + strings.Repeat("u", keptBuffer) + `"}`, http.StatusUnauthorized},
		"a bomb":       {zipped(t, strings.Repeat(" ", 8*maxInflatedBody)), http.StatusRequestEntityTooLarge},
		"inflated":     {zipped(t, largeBody(1<<20)), http.StatusOK},
		"inflated, no": {zipped(t, strings.Repeat("x", 1<<20)), http.StatusBadRequest},
	} {
		if w := call(h, "POST", "/flags/?v=2", c.body); w.Code != c.status {
			t.Errorf("%s: got %d, want %d", name, w.Code, c.status)
		}
		if large, inflated := r.large.Load(), len(r.inflated); large != maxLargeBodies-1 || inflated != 0 {
			t.Errorf("%s: %d places of large bodies are taken and %d of inflated ones, want %d and 0", name, large, inflated, maxLargeBodies-1)
		}
	}
}

// When as many bodies are inflated as may be, the next one waits for its turn; one that stays small does not.
func TestInflatedBodiesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := newTestHandler(t, Config{}, everyone("on"))
		r := roomOf(h)
		for range maxInflatedBodies {
			r.await(&body{})
		}
		if w := call(h, "POST", "/flags/?v=2", zipped(t, anyone)); w.Code != http.StatusOK {
			t.Errorf("a small body: got %d", w.Code)
		}
		code := make(chan int, 1)
		go func() { code <- call(h, "POST", "/flags/?v=2", zipped(t, largeBody(1<<20))).Code }()
		synctest.Wait()
		if len(code) != 0 {
			t.Fatal("the body was inflated at once")
		}
		r.leave(&body{isInflated: true})
		if got := <-code; got != http.StatusOK {
			t.Errorf("got %d", got)
		}
	})
}
