package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/everflag/everflag/internal/browsertest"
	"github.com/everflag/everflag/internal/testenv"
)

// screenshots says whether this run is to make the pictures of the documents, see docs/pages.md.
func screenshots() bool { return os.Getenv("EVERFLAG_SCREENSHOTS") != "" }

// dark is the desktop of who prefers that.
var dark = browsertest.Window{Width: browsertest.Desktop.Width, Height: browsertest.Desktop.Height, Dark: true}

// edits changes flags of several teams at random intervals until it is told to stop.
func edits(t *testing.T, w *world) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	db := w.pg.Conn(t)
	var running sync.WaitGroup
	running.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			keys := []string{"new-checkout", "search-ranking", "gift-wrapping", "paint-shop", "dark-mode"}
			// An error is the end of the test, which cancels the context.
			_, _ = db.Exec(ctx, `UPDATE posthog_featureflag SET version = coalesce(version, 0) + 1 WHERE key = $1`, keys[i*i%len(keys)])
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(100+i%7*300) * time.Millisecond):
			}
		}
	})
	return func() { cancel(); running.Wait() }
}

// TestPagesInBrowser visits the pages of the real programs as people do.
func TestPagesInBrowser(t *testing.T) {
	t.Parallel()
	b := browsertest.New(t)
	pg := testenv.PostgresServer(t, testenv.PGOptions{}) // where names may be those that people use
	pg.Database(t).Exec(t, "CREATE DATABASE posthog")
	db := &testenv.DB{URL: pg.URL("posthog")}
	w := &world{pg: db, db: db.Conn(t)}
	testenv.LoadSchema(t, w.pg, testenv.Schema2026)
	testenv.LoadSeed(t, w.pg, testenv.Schema2026)
	rd := testenv.RedisServer(t, testenv.RedisOptions{})
	port := testenv.FreePort(t)
	replicator := testenv.Run(t, testenv.Build(t, "cmd/replicator"), []string{
		"REPLICATOR_POSTGRES_URL=" + w.pg.URL, "REPLICATOR_REDIS_URL=" + rd.URL, "REPLICATOR_ADMIN_ADDR=127.0.0.1:" + port,
	})
	board := "http://127.0.0.1:" + port + "/"
	decide := startDecide(t, rd.URL, "everflag", "")
	reader := "http://" + decide.admin
	testenv.Eventually(t, settle, func() error { return get(board + "readyz") })

	visitDecide(t, b, reader)
	visitReplicator(t, b, w, rd, board, reader)
	walk(t, b, w, board, decide)

	b.Open(t, browsertest.Desktop, board)
	b.Check(t)
	replicator.Kill(t)
	b.Await(t, "#notice", "No answer since")
	b.Forgive()
}

// visitReplicator watches a change come in, and Redis go and come back, without touching the page.
func visitReplicator(t *testing.T, b *browsertest.Browser, w *world, rd *testenv.RedisInstance, board, reader string) {
	b.Open(t, browsertest.Desktop, board)
	b.Await(t, "#state", "leader")
	b.Await(t, "#figures", "none since the start") // no change since the copy
	w.exec(t, `UPDATE posthog_featureflag SET active = false WHERE key = 'dark-mode'`)
	b.Await(t, "#feed", "flag dark-mode")
	w.exec(t, `UPDATE posthog_featureflag SET active = true WHERE key = 'dark-mode'`)
	for _, part := range []string{"#charts svg[aria-label^='Lag over the last 2 minutes: now']", "#charts polyline"} {
		if n := browsertest.Eval[int](t, b, fmt.Sprintf("document.querySelectorAll(%q).length", part)); n == 0 {
			t.Errorf("no %s", part)
		}
	}
	if screenshots() {
		defer edits(t, w)()
		<-time.After(45 * time.Second)
	}
	rd.Kill(t)
	b.Await(t, "#trouble", "Not ready")
	b.Fits(t)
	b.Open(t, browsertest.Phone, reader)
	b.Await(t, "#state", "serving from memory")
	b.Open(t, browsertest.Phone, board)
	b.Await(t, "#trouble", "Not ready")
	if screenshots() {
		<-time.After(5 * time.Second)
	}
	rd.Start(t)
	b.Await(t, "#state", "ready")
	testenv.Eventually(t, settle, func() error { return get(board + "readyz") })
	b.Await(t, "#feed", "reconciled")
	b.Await(t, "#turns", "the cache cannot be written")
	testenv.Eventually(t, settle, func() error {
		if trouble := b.Text(t, "#trouble"); strings.TrimSpace(trouble) != "" {
			return fmt.Errorf("back in health the page says %q", trouble)
		}
		return nil
	})
	if screenshots() {
		<-time.After(20 * time.Second)
	}
	b.Fits(t)
	browsertest.Eval[bool](t, b, "document.querySelector('#charts').scrollIntoView(), true")
	b.Screenshot(t, "replicator-phone.png")
}

// visitDecide finds a team, a flag and an explanation with the keyboard alone.
func visitDecide(t *testing.T, b *browsertest.Browser, reader string) {
	b.Open(t, browsertest.Desktop, reader)
	b.Await(t, "#state", "following Redis")
	b.Await(t, "#teams", "Kestrel Clinic")
	b.Shortcut(t, "/")
	b.Press(t, "harbour")
	testenv.Eventually(t, settle, func() error {
		if shown := b.Text(t, "#teams"); strings.Contains(shown, "Kestrel") || !strings.Contains(shown, "Harbour Books, staging") {
			return fmt.Errorf("a search for harbour shows %q", shown)
		}
		return nil
	})
	if address := browsertest.Eval[string](t, b, "location.search"); address != "?q=harbour" {
		t.Errorf("the search is not in the address: %q", address)
	}
	follow(t, b, "Harbour Books")
	b.Await(t, "h1", "Harbour Books")
	b.Shortcut(t, "/")
	b.Press(t, "loyal")
	testenv.Eventually(t, settle, func() error {
		if shown := b.Text(t, "#flags"); strings.Contains(shown, "gift-wrapping") || !strings.Contains(shown, "loyalty-card") {
			return fmt.Errorf("a search for loyal shows %q", shown)
		}
		return nil
	})
	follow(t, b, "loyalty-card")
	b.Await(t, "ol.conditions", "is in cohort Loyal readers in Britain (3)")
	b.Await(t, "main", "the person is in cohort Readers in Britain (2) and orders is at least 10")
	follow(t, b, "Explain for a user")

	b.Await(t, "h1", "Explain")
	testenv.Eventually(t, settle, func() error {
		if focused := b.Focused(t); focused != "distinct_id" {
			return fmt.Errorf("the focus is on %q", focused)
		}
		return nil
	})
	b.Press(t, "tom"+kb.Tab+kb.Tab+`{"country": "GB"}`)
	b.Press(t, kb.Enter, chromedp.KeyModifiers(chromedp.ModifierCtrl))
	b.Await(t, "#answer", "For tom")
	b.Await(t, "#answer", "1 unknown")
	b.Await(t, "#answer .notice", `person property "orders" (loyalty-card)`)
	b.Await(t, "#answer .steps", "in cohort 3")
	b.Do(t, chromedp.Focus(chromedp.CSS("#person_properties")))
	b.Press(t, kb.End+kb.Backspace+`, "orders": 12, "email": "t@r.test"}`+kb.Tab+kb.Tab+kb.Tab+kb.Tab+kb.Enter) // past the other fields and "More" to the button
	b.Await(t, "#answer", "Matched condition set 1")

	b.Do(t, chromedp.Focus(chromedp.CSS("#flag"))) // all flags
	b.Press(t, kb.End+strings.Repeat(kb.Backspace, len("loyalty-card"))+kb.Enter)
	b.Await(t, "#answer", "gift-wrapping")
	b.Fits(t)
	explainAgain(t, b, reader)
	for _, page := range []string{"/", "/team", "/team/flag"} {
		b.Open(t, browsertest.Phone, reader+page+"?id=203&token="+url.QueryEscape(booksToken))
	}
}

const booksToken = "phc_hB7qPz2LkV9xWc4RtY6uNm1JsD8fGa3EoQ5iTbXv0Zr"

// explainAgain asks on a phone, in a form with everything filled in, and opens an outcome with the keyboard.
func explainAgain(t *testing.T, b *browsertest.Browser, reader string) {
	for _, window := range []browsertest.Window{browsertest.Phone, dark} {
		b.Open(t, window, reader+"/team/explain?token="+url.QueryEscape(demoToken))
		b.Press(t, "ada"+kb.Tab+kb.Tab+`{"email": "ada@example.com", "plan": "free"}`+kb.Tab+`{"company": "acme"}`+kb.Tab+`{"company": {"seats": 250}}`)
		b.Press(t, kb.Enter, chromedp.KeyModifiers(chromedp.ModifierCtrl))
		b.Await(t, "#answer", "For ada")
		for _, id := range []string{"103", "105"} { // search-variant and pricing-page
			b.Do(t, chromedp.Focus(chromedp.CSS("#answer details:has(a[href*='id="+id+"']) summary")))
			b.Press(t, kb.Enter)
			b.Await(t, "#answer details[open]:has(a[href*='id="+id+"'])", "rollout 100 %")
		}
		b.Fits(t)
		browsertest.Eval[bool](t, b, "document.querySelector('#answer').scrollIntoView(), document.activeElement.blur(), true")
	}
	b.Screenshot(t, "explain.png")
}

// follow goes to a link with Tab and Enter, as nobody with a mouse does.
func follow(t *testing.T, b *browsertest.Browser, text string) {
	t.Helper()
	before := browsertest.Eval[string](t, b, "location.pathname")
	for range 60 {
		b.Press(t, kb.Tab)
		if b.Focused(t) == text {
			b.Press(t, kb.Enter)
			testenv.Eventually(t, settle, func() error {
				if now := browsertest.Eval[string](t, b, "document.readyState + location.pathname"); now == "complete"+before || !strings.HasPrefix(now, "complete") {
					return fmt.Errorf("still at %s", now)
				}
				return nil
			})
			b.Fits(t)
			return
		}
	}
	t.Fatalf("the keyboard does not reach %q", text)
}
