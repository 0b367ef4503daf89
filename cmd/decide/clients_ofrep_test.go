package main

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/everflag/everflag/internal/testenv"
)

// evaluation is what OpenFeature's SDKs tell of a flag.
type evaluation struct {
	Value     any    `json:"value"`
	Reason    string `json:"reason"`
	Variant   string `json:"variant"`
	ErrorCode string `json:"errorCode"`
}

const bulkPath = "/ofrep/v1/evaluate/flags"

// The provider for Node asks for one flag at a time and remembers nothing: without a value it tells the caller's default, with an error.
func TestOFREPNode(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	n := newNode(t, s)
	do[any](t, n, `
		const { OpenFeature } = await load('@openfeature/server-sdk')
		const { OFREPProvider } = await load('@openfeature/ofrep-provider')
		await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: host, timeoutMs: 30000, headers: [['Authorization', 'Bearer ' + token]] }))
		globalThis.client = OpenFeature.getClient()
		globalThis.user = { targetingKey: 'u1', plan: 'paid', groups: { organization: 'acme' }, group_properties: { organization: { tier: 'gold' } } }`)
	one := func(when, key string, fallback bool, want evaluation) {
		t.Helper()
		got := do[evaluation](t, n, fmt.Sprintf("return await client.getBooleanDetails(%q, %v, user)", key, fallback))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s is told as (-want +got):\n%s", when, key, diff)
		}
	}
	one("in health", "by-plan", false, evaluation{Value: true, Reason: "TARGETING_MATCH"})
	one("in health", "by-group", false, evaluation{Value: true, Reason: "TARGETING_MATCH"})
	one("in health", "never", true, evaluation{Value: false, Reason: "DEFAULT"})
	one("in health", "no-such-flag", true, evaluation{Value: true, Reason: "ERROR", ErrorCode: "FLAG_NOT_FOUND"})
	color := do[evaluation](t, n, "return await client.getStringDetails('color', 'green', user)")
	if diff := cmp.Diff(evaluation{Value: "blue", Reason: "SPLIT", Variant: "blue"}, color); diff != "" {
		t.Errorf("color is told as (-want +got):\n%s", diff)
	}
	s.last(t, bulkPath+"/color").wantSent(t, sent{
		method: http.MethodPost, contentType: "application/json; charset=utf-8", userAgent: "node", members: []string{"context"},
	})
	fallback := evaluation{Value: true, Reason: "ERROR", ErrorCode: "GENERAL"}
	s.change(t, map[string]string{"wobbly": wobblyBad})
	one("on a partial answer", "wobbly", true, fallback)
	s.to(s.cold)
	one("on 503", "always", true, fallback)
	s.cut()
	one("without an answer", "always", true, fallback)
	s.to(s.warm)
	s.forget(t)
	one("on 401", "always", true, fallback)
}

// The provider for pages asks for all flags, keeps them with their tag, and asks again every now and then.
func TestOFREPWeb(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p := newPage(t, s)
	do[any](t, p, `
		const { OpenFeature, ClientProviderEvents } = await import('@openfeature/web-sdk')
		const { OFREPWebProvider } = await import('@openfeature/ofrep-web-provider')
		await OpenFeature.setContext({ targetingKey: 'u1', plan: 'paid' })
		globalThis.events = []
		for (const event of Object.values(ClientProviderEvents)) OpenFeature.addHandler(event, () => events.push(event))
		await OpenFeature.setProviderAndWait(
			new OFREPWebProvider({ baseUrl: host, pollInterval: 100, timeoutMs: 30000, headers: [['Authorization', 'Bearer ' + token]] }))
		globalThis.client = OpenFeature.getClient()
		globalThis.told = () => ({
			'by-plan': client.getBooleanDetails('by-plan', false), 'never': client.getBooleanDetails('never', true),
			'wobbly': client.getBooleanDetails('wobbly', true), 'color': client.getStringDetails('color', 'green'),
		})`)
	flags := map[string]evaluation{
		"by-plan": {Value: true, Reason: "TARGETING_MATCH"}, "never": {Value: false, Reason: "DEFAULT"}, "wobbly": {Value: true, Reason: "TARGETING_MATCH"},
		"color": {Value: "blue", Reason: "SPLIT", Variant: "blue"},
	}
	told := func(when string) {
		t.Helper()
		var diff string
		testenv.Eventually(t, 10*time.Second, func() error {
			if diff = cmp.Diff(flags, do[map[string]evaluation](t, p, "return told()")); diff != "" {
				return fmt.Errorf("%s flags are told as (-want +got):\n%s", when, diff)
			}
			return nil
		})
	}
	told("in health")
	s.post(t, bulkPath)[0].wantSent(t, sent{method: http.MethodPost, contentType: "application/json; charset=utf-8", members: []string{"context"}})
	s.awaitStatus(t, bulkPath, http.StatusNotModified) // so the page may read ETag, and send If-None-Match
	told("unchanged")

	s.change(t, map[string]string{"wobbly": wobblyBad, "color": colorRed})
	flags["wobbly"] = evaluation{Value: true, Reason: "ERROR", ErrorCode: "GENERAL"} // the caller's default, whatever the flag was
	flags["color"] = evaluation{Value: "red", Reason: "SPLIT", Variant: "red"}
	told("on a partial answer")
	s.to(s.cold)
	s.awaitStatus(t, bulkPath, http.StatusServiceUnavailable)
	told("on 503")
	s.cut()
	s.awaitStatus(t, bulkPath, 0)
	told("without an answer")
	if stale := do[[]string](t, p, "return events.filter((event) => event === 'PROVIDER_STALE')"); len(stale) == 0 {
		t.Error("the application does not hear that its flags are stale")
	}
	s.change(t, map[string]string{"wobbly": flagOff})
	s.to(s.warm)
	flags["wobbly"] = evaluation{Value: false, Reason: "DEFAULT"}
	told("back in health")
	s.forget(t)
	s.awaitStatus(t, bulkPath, http.StatusUnauthorized)
	told("on 401")
}

// post returns the POST requests for the path; a browser asks for permission first.
func (f *front) post(t *testing.T, path string) []exchange {
	t.Helper()
	var posts []exchange
	for _, e := range f.seen(path) {
		if e.Method == http.MethodPost {
			posts = append(posts, e)
		}
	}
	if len(posts) == 0 {
		t.Fatalf("no POST to %s, but requests for %v", path, f.paths())
	}
	return posts
}
