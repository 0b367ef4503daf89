package main

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/everflag/everflag/internal/browsertest"
	"github.com/everflag/everflag/internal/testenv"
)

// walkedFlag is the flag of the demo's team that the walk gives a rule, which is what its SQL says.
const (
	walkedFlag = "search-variant"
	walkedRule = `UPDATE posthog_featureflag SET filters = jsonb_set(filters, '{groups}', '[{"properties":[{"key":"plan","type":"person",
		"value":["free","trial"],"operator":"exact"}],"rollout_percentage":100,"variant":"semantic"}]' || (filters->'groups')) WHERE key = '` + walkedFlag + `'`
)

// walk is what the README promises: a flag changed in SQL shows in the replicator's feed and on decide's page, and an explanation says why a user has a variant.
func walk(t *testing.T, b *browsertest.Browser, w *world, board string, reader *server) {
	b.Open(t, browsertest.Desktop, board)
	b.Await(t, "#state", "leader")
	w.exec(t, walkedRule)
	// Whose it is, what it is, and how long it took.
	row := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\s+1\s+flag ` + walkedFlag + `\s+[0-9.]+ m?s$`)
	testenv.Eventually(t, settle, func() error {
		if feed := b.Text(t, "#feed"); !row.MatchString(feed) {
			return fmt.Errorf("the feed does not show the change: %q", feed)
		}
		return nil
	})
	b.Screenshot(t, "replicator.png")

	pages := "http://" + reader.admin
	b.Open(t, browsertest.Desktop, pages)
	b.Await(t, "#teams", "Kestrel Clinic")
	b.Screenshot(t, "decide.png")
	b.Open(t, browsertest.Desktop, pages+"/team?token="+url.QueryEscape(demoToken))
	follow(t, b, walkedFlag)
	for _, rule := range []string{"1. 100 % of all persons where", "plan is one of “free”, “trial”", "get the variant semantic", "2. 100 % of all persons"} {
		b.Await(t, "ol.conditions", rule)
	}
	b.Screenshot(t, "decide-flag.png")

	follow(t, b, "Explain for a user")
	b.Await(t, "h1", "Explain")
	testenv.Eventually(t, settle, func() error {
		if b.Focused(t) != "distinct_id" {
			return errors.New("the form has no focus")
		}
		return nil
	})
	b.Press(t, "ada"+kb.Tab+kb.Tab+`{"plan": "free"}`)
	b.Press(t, kb.Enter, chromedp.KeyModifiers(chromedp.ModifierCtrl))
	b.Await(t, "#answer", "For ada")
	steps := b.Text(t, "#answer details[open] .steps")
	for _, step := range []string{`persons are bucketed by distinct id`, `person property "plan" exact ["free", "trial"], given "free"`, "rollout 100 %", `"semantic"`} {
		if _, after, found := strings.Cut(steps, step); found {
			steps = after
		} else {
			t.Errorf("the explanation lacks the step %q in its order: %q", step, b.Text(t, "#answer"))
		}
	}
	if value := b.Text(t, "#answer details[open] summary .pill"); value != "semantic" {
		t.Errorf("explained is %q, want the variant of the condition", value)
	}
	b.Fits(t)
	b.Screenshot(t, "decide-explain.png")

	// What the page explains is what clients get.
	a, err := reader.ask(t.Context(), demoToken, "ada")
	if err != nil || !strings.Contains(a.flags, `"`+walkedFlag+`":{"Enabled":true,"Variant":"semantic"}`) {
		t.Errorf("the client gets %q, %v", a.flags, err)
	}
}
