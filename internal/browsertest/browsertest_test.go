package browsertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestEvalBetweenPages asks pages that are being left all the time.
func TestEvalBetweenPages(t *testing.T) {
	t.Parallel()
	page := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		page++
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!DOCTYPE html><link rel="icon" href="data:,"><p>page</p><script>setTimeout(() => location.replace('/?%d'), 1)</script>`, page)
	}))
	t.Cleanup(server.Close)
	b := New(t)
	b.Do(t, chromedp.Navigate(server.URL))
	for range 50 {
		b.Await(t, "p", "page")
	}
}
