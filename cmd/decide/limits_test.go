package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestRateLimitsOfTheProgram wants the settings to mean what they say: nothing is limited by default, log counts and tells, enforce answers 429, and the client is
// whom a trusted proxy names, or else the peer. S50.
func TestRateLimitsOfTheProgram(t *testing.T) {
	t.Parallel()
	const perToken, perClient = 625, 1250 // the buckets, as in PostHog
	type bucket struct{ client, token string }
	for name, c := range map[string]struct {
		settings []string
		fill     bucket // filled to the brim, and then
		asked    bucket
		want     int
		counted  string
	}{
		"off":                      {nil, bucket{"", token}, bucket{"", token}, 200, ""},
		"log":                      {[]string{"DECIDE_RATE_LIMIT=log"}, bucket{"", token}, bucket{"", token}, 200, `action="logged",limit="token"`},
		"enforce, a token":         {[]string{"DECIDE_RATE_LIMIT=enforce"}, bucket{"", token}, bucket{"", token}, 429, `action="rejected",limit="token"`},
		"enforce, another token":   {[]string{"DECIDE_RATE_LIMIT=enforce"}, bucket{"", token}, bucket{"", "phc_other"}, 401, ""},
		"enforce, a client":        {[]string{"DECIDE_RATE_LIMIT=enforce"}, bucket{"203.0.113.1", ""}, bucket{"203.0.113.2", token}, 429, `action="rejected",limit="client"`},
		"enforce, a trusted proxy": {[]string{"DECIDE_RATE_LIMIT=enforce", "DECIDE_TRUSTED_PROXIES=127.0.0.0/8"}, bucket{"203.0.113.1", ""}, bucket{"203.0.113.2", token}, 200, ""},
		"enforce, another proxy":   {[]string{"DECIDE_RATE_LIMIT=enforce", "DECIDE_TRUSTED_PROXIES=10.0.0.0/8"}, bucket{"203.0.113.1", ""}, bucket{"203.0.113.2", token}, 429, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startTarget(t, append(c.settings, "DECIDE_RATE_LIMIT_TOKEN=0.001", "DECIDE_RATE_LIMIT_CLIENT=0.001")...)
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			ask := func(of bucket, n int) int {
				t.Helper()
				if of.token == "" {
					of.token = fmt.Sprint("phc_", n) // each of its own
				}
				body := fmt.Sprintf(`{"token":%q,"distinct_id":"ada"}`, of.token)
				request, err := http.NewRequest(http.MethodPost, "http://"+d.addr+"/flags/?v=2", strings.NewReader(body)) //nolint:noctx // because the server has time-outs
				if err != nil {
					t.Fatal(err)
				}
				if of.client != "" {
					request.Header.Set("X-Forwarded-For", of.client)
				}
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close() // only the status is of interest
				if (response.Header.Get("Retry-After") != "") != (response.StatusCode == http.StatusTooManyRequests) {
					t.Errorf("Retry-After of a %d is %q", response.StatusCode, response.Header.Get("Retry-After"))
				}
				return response.StatusCode
			}
			most := perToken
			if c.fill.token == "" {
				most = perClient
			}
			for n := range most {
				if got := ask(c.fill, n); got != http.StatusOK && got != http.StatusUnauthorized {
					t.Fatalf("request %d is answered %d", n, got)
				}
			}
			if got := ask(c.asked, most); got != c.want {
				t.Errorf("request %d is answered %d, want %d", most, got, c.want)
			}
			if series := "everflag_decide_rate_limited_total{" + c.counted + "} 1\n"; c.counted != "" && !strings.Contains(metricsOf(d), series) {
				t.Errorf("no %s", series)
			}
			if c.want == http.StatusTooManyRequests || c.counted != "" {
				d.WaitForLog(t, "exceed a rate limit")
			} else if strings.Contains(strings.Join(d.Logs(), "\n"), "exceed a rate limit") {
				t.Error("a line about a limit that was not exceeded")
			}
		})
	}
}
