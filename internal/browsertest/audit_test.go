package browsertest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestAuditFindsFlaws opens a page with one of each.
func TestAuditFindsFlaws(t *testing.T) {
	t.Parallel()
	style := `body { background: #fff; color: #000; margin: 0 } :focus { outline: 2px solid #000 } .pale { color: #999 } .shy:focus { outline: 0 }
		.broad { width: 2000px } .narrow { width: 2rem; overflow: hidden; white-space: nowrap } @media (prefers-color-scheme: dark) { .night { color: #eee } }`
	flawed := `<p class="pale">pale <p class="night">night <button class="shy">shy</button> <input id="nameless"> <p class="broad">broad</p>
		<main><p class="narrow">narrow but long</p></main><details><summary>more</summary><p class="pale">hidden</p></details>` + "<!--" + strings.Repeat("x", 100_000) + "-->"
	sound := `<h1>sound</h1><p>text <button>button</button><details><summary>more</summary>text</details>`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := map[string]string{"/flawed": flawed, "/sound": sound}[r.URL.Path]
		_, _ = w.Write([]byte(`<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><style>` + style + `</style>` + body))
	}))
	t.Cleanup(server.Close)
	b := New(t)
	open := func(w Window, path string) string {
		b.resize(t, w)
		b.Do(t, chromedp.Navigate(server.URL+path))
		return strings.Join(b.flaws(t), "\n")
	}
	found := open(Desktop, "/flawed")
	for _, want := range []string{
		"2.85, want 4.5: p.pale “pale", "2.85, want 4.5: p.pale “hidden", "no label: input#nameless", "the focus does not show: button.shy", "the page is 2000 wide in a window of 1200",
		"cut off: p.narrow", "0 first headings", "have 100",
	} {
		if !strings.Contains(found, want) {
			t.Errorf("the audit does not find %q:\n%s", want, found)
		}
	}
	if strings.Contains(found, "p.night") {
		t.Errorf("the audit finds in light what is wrong in the dark:\n%s", found)
	}
	if found := open(Window{Width: 390, Height: 844, Dark: true}, "/flawed"); !strings.Contains(found, "want 4.5: p.night") {
		t.Errorf("the audit does not find what is wrong in the dark:\n%s", found)
	}
	if found := open(Desktop, "/sound"); found != "" {
		t.Errorf("the audit finds in a page without flaws:\n%s", found)
	}
}
