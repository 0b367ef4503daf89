package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"go.uber.org/zap/zaptest"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/browsertest"
	"github.com/everflag/everflag/internal/flagcache"
)

// gallery is pages on a shelf, for a browser.
type gallery struct {
	*shelf
	reader *reader
	url    string
}

func newGallery(t *testing.T) *gallery {
	t.Helper()
	g := &gallery{shelf: &shelf{unknown: decide.Absent, teams: map[string]*flagcache.Team{}}}
	var err error
	if g.reader, err = newReader(g.shelf, zaptest.NewLogger(t)); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for pattern, handler := range g.reader.with(map[string]http.Handler{}) {
		mux.Handle(pattern, handler)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

// fill puts teams on the shelf: one with a flag of every form, names in other scripts, and one that is large in everything.
func (g *gallery) fill() {
	g.teams["phc_h"] = harbour()
	g.teams["phc_empty"] = teamOf(5, "phc_empty", "", nil)
	long := strings.Repeat("0123456789", 40)
	words := strings.Repeat("many words ", 40)
	var variants []string
	for i := range 60 {
		variants = append(variants, fmt.Sprintf(`{"key":"variant-%d-%s","name":"%s","rollout_percentage":%g}`, i, long, words, 100.0/60))
	}
	flags := []string{
		fmt.Sprintf(`{"key":"huge-%s","name":"%s","filters":{"groups":[{"properties":[{"key":"%[1]s","type":"person","value":["%[1]s","%[2]s"],"operator":"exact"}],"variant":"variant-3-%[1]s"},
			{"properties":[],"rollout_percentage":33.333333333333336}],"multivariate":{"variants":[%[3]s]},"payloads":{"variant-3-%[1]s":"{\"a\":\"%[1]s\"}"}}}`, long, words, strings.Join(variants, ",")),
		`{"key":"新しい-チェックアウト","name":"Новая оплата для всех","filters":{"groups":[{"properties":[{"key":"المدينة","type":"person","value":"القاهرة","operator":"exact"}],"rollout_percentage":100}]}}`,
		`{"key":"inactive","active":false,"filters":{"groups":[]}}`,
	}
	for i := range 150 {
		flags = append(flags, fmt.Sprintf(`{"key":"flag-%d","filters":{"groups":[{"properties":[],"rollout_percentage":%d}]}}`, i, i%101))
	}
	g.teams["phc_"+long[:200]] = teamOf(1234567890, "phc_"+long[:200], words+long, nil, flags...)
	for i := range 70 {
		token := fmt.Sprintf("phc_%043d", i)
		g.teams[token] = teamOf(int64(100+i), token, []string{"Kestrel Clinic", "東京の書店", "Книги у гавани", "مكتبة الميناء", "ร้านหนังสือ"}[i%5], nil)
	}
}

// TestPagesAudited looks at every page in light and dark, on a desktop and a phone.
func TestPagesAudited(t *testing.T) {
	t.Parallel()
	b, g := browsertest.New(t), newGallery(t)
	now := time.Now()
	refused := "dial tcp 10.0.0.7:6379: connect: connection refused, " + strings.Repeat("and-no-space-", 20)
	visit := func(name, path string) {
		t.Helper()
		b.Open(t, browsertest.Desktop, g.url+path)
		if strings.Contains(name, "unknown") {
			b.Forgive() // the browser notes that it was answered with 404
		}
		b.Audit(t, "decide-"+name)
	}
	g.status = store.Status{Source: "none", Since: now.Add(-time.Minute), Error: refused, ErrorSince: new(now.Add(-time.Minute))}
	visit("empty", "/")
	g.fill()
	fresh := store.Status{
		Source: "redis", Since: now, Position: flagcache.Version(7, 0x1A301A60630), Epoch: 1793200000000, Owner: "replicator-1.eu-west.example.com/OWZ5KQ3N7B2XJ4TDL6CMVRHA2E", Complete: true, Certain: true,
		Teams: 73, Programs: 12, RecordBytes: 400 << 20, ProgramBytes: 3 << 20, LastChange: new(now.Add(3 * time.Millisecond)), LastCommit: &now, LastPoll: &now,
		SnapshotFile: "/var/lib/everflag/decide.snapshot", SnapshotAt: &now,
	}
	stale := fresh
	stale.Source, stale.AgeSeconds, stale.Error, stale.ErrorSince, stale.Certain, stale.Complete = "memory", 5000, refused, &now, false, false
	stale.Reconcile, stale.FileError = "verify found drift", "writing /var/lib/everflag/decide.snapshot: no space left on device"
	fromFile, reconciled := stale, fresh
	fromFile.Source, reconciled.Reconcile = "file", "the replication slot is missing" // the broadest states
	for i, s := range []store.Status{g.status, fromFile, reconciled, fresh, stale, fresh} {
		g.reader.history.note(s, now.Add(time.Duration(i-10)*time.Minute))
	}
	g.status = stale
	visit("stale", "/")
	g.status = fresh
	visit("index", "/")
	visit("search", "/?q=nobody+has+this+name")
	visit("unknown-team", "/team?token=phc_nobody")

	var large string
	for token, team := range g.teams {
		if team.ID == 1234567890 {
			large = url.QueryEscape(token)
		}
	}
	visit("team", "/team?token=phc_h")
	visit("team-empty", "/team?token=phc_empty")
	visit("team-large", "/team?token="+large)
	visit("flag-unknown", "/team/flag?token=phc_h&id=99")
	for id, name := range map[int]string{1: "plain", 2: "variants", 3: "cohorts", 5: "broken", 6: "sealed", 8: "hostile"} {
		visit("flag-"+name, fmt.Sprintf("/team/flag?token=phc_h&id=%d", id))
	}
	b.Open(t, browsertest.Desktop, g.url+"/team/flag?id=1&token="+large)
	b.Await(t, "main", "And 20 variants more")
	for id, name := range map[int]string{1: "huge", 2: "scripts", 3: "inactive"} {
		visit("flag-"+name, fmt.Sprintf("/team/flag?id=%d&token=%s", id, large))
	}
	visit("explain", "/team/explain?token=phc_h")
	ask := func(name, token, properties, flag string) {
		t.Helper()
		b.Open(t, browsertest.Desktop, g.url+"/team/explain?flag="+flag+"&token="+token)
		b.Check(t)
		b.Do(t, chromedp.SetValue(chromedp.CSS("#distinct_id"), "ada"), chromedp.SetValue(chromedp.CSS("#person_properties"), properties))
		browsertest.Eval[bool](t, b, `document.querySelector('form').requestSubmit(), true`)
		if strings.HasSuffix(properties, "}") {
			b.Await(t, "#answer", "For ada")
		} else {
			b.Await(t, "form", "Not a JSON object")
			b.Forgive() // the browser notes that it was answered with 422
		}
		b.Audit(t, "decide-explain-"+name)
	}
	ask("wrong", "phc_h", `{"plan":`, "")
	ask("all", "phc_h", `{"plan": "free"}`, "")
	ask("one", "phc_h", `{"plan": "pro", "age": 20}`, "lot")
	ask("none", "phc_empty", `{}`, "")
	ask("large", large, `{}`, "")
}
