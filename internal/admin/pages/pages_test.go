package pages

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

func TestClip(t *testing.T) {
	for text, want := range map[string]string{
		"short": "short", "12345678": "12345678", "123456789": "1234567…", "ü2345678": "ü2345678", "ü23456789": "ü234567…", "a\x00b\u202ec\u2066": "a\ufffdb\ufffdc\ufffd",
		"a\xffb": "a\ufffdb", "": "",
	} {
		if got := Clip(8, text); got != want {
			t.Errorf("Clip(8, %q) = %q, want %q", text, got, want)
		}
	}
}

func TestFigures(t *testing.T) {
	for size, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 200 << 10: "200 KiB", 3 << 30: "3.0 GiB", 5 << 50: "5120 TiB"} {
		if got := Size(size); got != want {
			t.Errorf("Size(%d) = %q, want %q", size, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 450 * time.Microsecond: "0.5 ms", 12 * time.Millisecond: "12 ms", 1400 * time.Millisecond: "1.4 s", 42 * time.Second: "42 s",
		90 * time.Second: "1 min 30 s", 3*time.Hour + 5*time.Minute: "3 h 5 min", 49 * time.Hour: "2 days",
	} {
		if got := Took(d); got != want {
			t.Errorf("Took(%v) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int]string{0: "0 teams", 1: "1 team", 999: "999 teams", 1234567: "1\u202f234\u202f567 teams"} {
		if got := Count(n, "team"); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
	now := time.Date(2026, 11, 2, 0, 30, 0, 0, time.UTC)
	if today, before := Clock(now, now), Clock(now.Add(-time.Hour), now); today != "00:30:00" || before != "2026-11-01 23:30:00" {
		t.Errorf("clocks show %q and %q", today, before)
	}
}

func TestSite(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"pages/index.html":  {Data: []byte(`{{define "content"}}{{template "name" .}}{{end}}`)},
		"pages/broken.html": {Data: []byte(`{{define "content"}}{{.Nothing.More}}{{end}}`)},
		"pages/parts.html":  {Data: []byte(`{{define "name"}}<b>{{.}}</b>{{end}}`)},
	}
	site, err := New("test", "v1", files, zaptest.NewLogger(t, zaptest.Level(zap.FatalLevel)))
	if err != nil {
		t.Fatal(err)
	}
	show := func(page string) (int, string) {
		w := httptest.NewRecorder()
		site.Show(w, 200, page, View{Title: "<t>", Live: true, Trail: []Link{{"<l>", "javascript:alert(1)"}}, Body: "<x>"})
		return w.Code, w.Body.String()
	}
	if code, text := show("index"); code != 200 || !strings.Contains(text, "<b>&lt;x&gt;</b>") || strings.Contains(text, "javascript:") || !strings.Contains(text, `http-equiv="refresh"`) {
		t.Errorf("index: %d %s", code, text)
	}
	for _, page := range []string{"broken", "none", "parts", "layout"} { // a page that breaks half way sends nothing of itself
		if code, text := show(page); code != 500 || strings.Contains(text, "html") {
			t.Errorf("%s: %d %s", page, code, text)
		}
	}
	if _, err := New("test", "v1", fstest.MapFS{"pages/bad.html": {Data: []byte(`{{`)}}, zap.NewNop()); err == nil {
		t.Error("a template that cannot be parsed is no error")
	}
	for path, want := range map[string]string{
		"style.css?" + site.assets: "text/css immutable", "script.js": "text/javascript no-cache", "icon.svg?old": "image/svg+xml no-cache", "none.js": "404",
		"..%2Fpages.go": "404", "%2e": "404",
	} {
		name, _, _ := strings.Cut(path, "?")
		r := httptest.NewRequest("GET", "/assets/"+path, nil)
		r.SetPathValue("name", strings.NewReplacer("%2F", "/", "%2e", ".").Replace(name))
		w := httptest.NewRecorder()
		site.Asset(w, r)
		got := w.Header().Get("Content-Type") + " " + w.Header().Get("Cache-Control")
		if w.Code == 404 {
			got = "404"
		}
		for _, part := range strings.Fields(want) {
			if !strings.Contains(got, part) {
				t.Errorf("%s is %q, want %q in it", path, got, part)
			}
		}
	}
}

// The stylesheet and the script keep what the policy demands of them.
func TestAssets(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"style.css", "script.js"} {
		content, err := embedded.ReadFile("assets/" + name)
		if err != nil || len(content) > 20_000 {
			t.Errorf("%s: %d bytes, %v", name, len(content), err)
		}
		for _, never := range []string{"http:", "https:", "url(", "@import", "innerHTML", "eval("} {
			if strings.Contains(string(content), never) {
				t.Errorf("%s contains %q", name, never)
			}
		}
	}
}
