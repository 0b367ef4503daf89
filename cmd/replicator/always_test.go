package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// view is what a decide shows of where its answers come from: to load balancers, to clients and to people.
type view struct {
	ready, known, unknown int    // status of /readyz, and of a request with a token that a team has and with one that none has
	source                string // of /status
	stale                 bool   // answers say so; there are none from nothing
}

func (s *server) look(ctx context.Context) (v view, err error) {
	var status struct{ Source, Position string }
	ready, _, _, errReady := fetch(ctx, http.MethodGet, "http://"+s.admin+"/readyz", "")
	known, header, _, errKnown := fetch(ctx, http.MethodPost, "http://"+s.addr+"/flags/?v=2", `{"token":"`+demoToken+`","distinct_id":"ada"}`)
	unknown, headerUnknown, _, errUnknown := fetch(ctx, http.MethodPost, "http://"+s.addr+"/flags/?v=2", `{"token":"phc_nobody","distinct_id":"ada"}`)
	_, _, text, errStatus := fetch(ctx, http.MethodGet, "http://"+s.admin+"/status", "")
	err = errors.Join(errReady, errKnown, errUnknown, errStatus)
	if err == nil {
		err = json.Unmarshal([]byte(text), &status)
	}
	for _, answer := range []struct {
		status int
		header http.Header
	}{{known, header}, {unknown, headerUnknown}} {
		if retry := answer.header.Get("Retry-After"); (retry != "") != (answer.status == http.StatusServiceUnavailable) {
			err = errors.Join(err, fmt.Errorf("Retry-After of a %d is %q", answer.status, retry))
		}
		if position := answer.header.Get("X-Everflag-Version"); (position != "") != (status.Position != "") {
			err = errors.Join(err, fmt.Errorf("X-Everflag-Version of a %d is %q, and the position %q", answer.status, position, status.Position))
		}
	}
	return view{ready, known, unknown, status.Source, status.Source != "none" && header.Get("X-Everflag-Stale") != ""}, err
}

func fetch(ctx context.Context, method, url, body string) (status int, header http.Header, text string, err error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return 0, nil, "", err
	}
	all, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // it has been read
	return response.StatusCode, response.Header, string(all), err
}

// TestDecideWithAndWithout walks a decide through everything that it may have to serve from: nothing, an empty cache, a cache that is followed, one that nobody
// writes any more, memory alone, its file alone, and the cache again, with nobody's help. S14, S15, S17, S18, S19, S51, S57, S59.
func TestDecideWithAndWithout(t *testing.T) {
	t.Parallel()
	db, rd := testenv.Postgres(t), testenv.RedisServer(t, testenv.RedisOptions{})
	testenv.LoadSchema(t, db, testenv.Schema2026)
	testenv.LoadSeed(t, db, testenv.Schema2026)
	file, slot := filepath.Join(t.TempDir(), "decide.snapshot"), "slot_"+testenv.FreePort(t)
	var d *server
	start := func() { d = runDecide(t, rd.URL, "everflag", file, "DECIDE_STALE_AFTER=1s") }
	replicate := func() *testenv.Program {
		return testenv.Run(t, testenv.Build(t, "cmd/replicator"), []string{
			"REPLICATOR_POSTGRES_URL=" + db.URL, "REPLICATOR_REDIS_URL=" + rd.URL, "REPLICATOR_ADMIN_ADDR=127.0.0.1:" + testenv.FreePort(t), "REPLICATOR_SLOT=" + slot,
		})
	}
	becomes := func(when string, want view) {
		t.Helper()
		testenv.Eventually(t, settle, func() error {
			got, err := d.look(t.Context())
			if err == nil && got != want {
				err = fmt.Errorf("%s: %+v, want %+v", when, got, want)
			}
			return err
		})
	}

	rd.Kill(t)
	start()
	becomes("no Redis and no file", view{503, 503, 503, "none", false})
	rd.Start(t)
	testenv.Eventually(t, settle, func() error {
		_, _, text, err := fetch(t.Context(), http.MethodGet, "http://"+d.admin+"/status", "")
		if err == nil && !strings.Contains(text, "the cache is empty") {
			err = errors.New(text)
		}
		return err
	})
	becomes("an empty cache", view{503, 503, 503, "none", false})
	replicator := replicate()
	followed := view{200, 200, 401, "redis", false}
	becomes("a cache", followed)

	const of = `{"token":"phc_short","distinct_id":"ada"}`
	served := func(want int) (took time.Duration) {
		t.Helper()
		began := time.Now()
		testenv.Eventually(t, 2*time.Second, func() error {
			status, _, _, err := fetch(t.Context(), http.MethodPost, "http://"+d.addr+"/flags/?v=2", of)
			if err == nil && status != want {
				err = fmt.Errorf("status %d, want %d", status, want)
			}
			return err
		})
		return time.Since(began)
	}
	db.Exec(t, `INSERT INTO posthog_team SELECT (jsonb_populate_record(t, '{"id":99,"api_token":"phc_short","uuid":"00000000-0000-0000-0000-000000000099",
		"secret_api_token":null,"secret_api_token_backup":null}')).* FROM posthog_team t WHERE api_token = $1`, demoToken)
	t.Logf("a new team was served after %v", served(http.StatusOK))
	db.Exec(t, "DELETE FROM posthog_team WHERE id = 99")
	t.Logf("a deleted one was unknown after %v", served(http.StatusUnauthorized))

	replicator.Kill(t)
	becomes("no replicator", view{200, 200, 503, "redis", true})
	rd.Kill(t)
	becomes("no Redis", view{200, 200, 503, "memory", true})
	d.Signal(t, syscall.SIGTERM)
	if code := d.WaitWithin(t, settle); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	start()
	becomes("the file alone", view{200, 200, 503, "file", true})
	d.Kill(t)
	start()
	becomes("the file alone, after a kill", view{200, 200, 503, "file", true})
	rd.Start(t)
	replicate()
	becomes("all is back", followed)
}
