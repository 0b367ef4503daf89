package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/everflag/everflag/internal/testenv"
)

// load commits transactions all the time, and waits for a source that is away.
type load struct {
	t         *testing.T
	committed atomic.Int64
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

func (s *scene) load() *load {
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	l := &load{t: s.t, cancel: cancel}
	l.running.Go(func() { l.run(ctx, s.postgres) })
	s.t.Cleanup(l.stop)
	return l
}

func (l *load) run(ctx context.Context, url string) {
	var db *pgx.Conn
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	defer func() {
		if db != nil {
			_ = db.Close(context.WithoutCancel(ctx)) // the server may be gone
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var err error
		if db == nil || db.IsClosed() {
			db, err = pgx.Connect(ctx, url)
		}
		if err == nil && transaction(ctx, db) == nil {
			l.committed.Add(1)
		}
	}
}

// transaction changes some flags at once.
func transaction(ctx context.Context, db *pgx.Conn) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	for range 1 + rand.IntN(3) {
		statement := []string{
			"UPDATE posthog_featureflag SET active = NOT active WHERE key = $1",
			"UPDATE posthog_featureflag SET deleted = NOT deleted WHERE key = $1",
			"UPDATE posthog_featureflag SET version = version + 1 WHERE key = $1",
			fmt.Sprintf(`UPDATE posthog_featureflag SET filters = '{"groups": [{"rollout_percentage": %d}]}' WHERE key = $1`, rand.IntN(101)),
			fmt.Sprintf("UPDATE posthog_featureflag SET team_id = %d WHERE key = $1", 1+rand.IntN(teams)),
		}[rand.IntN(5)]
		if _, err := tx.Exec(ctx, statement, fmt.Sprint("flag-", rand.IntN(flags))); err != nil {
			_ = tx.Rollback(ctx) // the first error counts
			return err
		}
	}
	return tx.Commit(ctx)
}

// more waits until n more transactions are committed.
func (l *load) more(n int64) {
	l.t.Helper()
	target := l.committed.Load() + n
	testenv.Eventually(l.t, settle, func() error {
		if now := l.committed.Load(); now < target {
			return fmt.Errorf("%d of %d transactions are committed", now, target)
		}
		return nil
	})
}

func (l *load) stop() {
	l.cancel()
	l.running.Wait()
}

// decide is a running decide process that somebody asks all the time.
type decide struct {
	*testenv.Program
	t       *testing.T
	addr    string
	admin   string
	asked   atomic.Int64
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex // guards wrong
	wrong []string
}

// decide starts one, and its readers once it is ready.
func (s *scene) decide(more ...string) *decide {
	s.t.Helper()
	d := &decide{t: s.t, addr: "127.0.0.1:" + testenv.FreePort(s.t), admin: "127.0.0.1:" + testenv.FreePort(s.t)}
	env := []string{"DECIDE_REDIS_URL=" + s.redis, "DECIDE_ADDR=" + d.addr, "DECIDE_ADMIN_ADDR=" + d.admin, "DECIDE_DRAIN_DELAY=0s", "DECIDE_LOG_FORMAT=json"}
	d.Program = testenv.Run(s.t, testenv.Build(s.t, "cmd/decide"), append(env, more...), "serve")
	testenv.Eventually(s.t, settle, func() error { return d.ready(s.t.Context()) })
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	d.cancel = cancel
	d.running.Go(func() { d.read(ctx) })
	s.t.Cleanup(func() {
		d.cancel()
		d.running.Wait()
		httpClient.CloseIdleConnections()
	})
	return d
}

func (d *decide) read(ctx context.Context) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		values, err := d.ask(ctx)
		if err == nil && !values[steady] {
			err = fmt.Errorf("the flag that is always on is missing or off: %v", values)
		}
		if err == nil && d.asked.Load()%10 == 0 {
			err = d.ready(ctx)
		}
		d.asked.Add(1)
		if err != nil && ctx.Err() == nil {
			d.mu.Lock()
			d.wrong = append(d.wrong, err.Error())
			d.mu.Unlock()
		}
	}
}

// ready asks as a probe does: once ready, a decide stays so, whatever becomes of the servers behind it (S1).
func (d *decide) ready(ctx context.Context) error {
	_, err := fetch(ctx, "http://"+d.admin+"/readyz")
	return err
}

// ask returns the flags of the first team.
func (d *decide) ask(ctx context.Context) (map[string]bool, error) {
	body := fmt.Sprintf(`{"token":%q,"distinct_id":"somebody"}`, token)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.addr+"/flags/?v=2", bytes.NewBufferString(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	text, err := do(request)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Errors bool                              `json:"errorsWhileComputingFlags"`
		Flags  map[string]struct{ Enabled bool } `json:"flags"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return nil, err
	}
	if answer.Errors {
		return nil, fmt.Errorf("errors while computing: %s", text)
	}
	values := map[string]bool{}
	for key, flag := range answer.Flags {
		values[key] = flag.Enabled
	}
	return values, nil
}

// do returns the body of an answer 200.
func do(request *http.Request) (string, error) {
	response, err := httpClient.Do(request)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // it has been read
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", request.URL.Path, response.StatusCode, text)
	}
	return string(text), err
}

// noticedNothing ends the test with an error if a reader was answered anything but the truth, and waits until decide serves what the tables say now.
func (d *decide) noticedNothing(s *scene) {
	d.t.Helper()
	flip := !value[bool](s, "SELECT active FROM posthog_featureflag WHERE key = 'flag-1'")
	s.exec(`UPDATE posthog_featureflag SET active = $1, deleted = false, team_id = 1, filters = '{"groups": [{"rollout_percentage": 100}]}' WHERE key = 'flag-1'`, flip)
	testenv.Eventually(d.t, settle, func() error {
		values, err := d.ask(d.t.Context())
		if err == nil && values["flag-1"] != flip {
			err = fmt.Errorf("flag-1 is answered %t", values["flag-1"])
		}
		return err
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.wrong) > 0 {
		d.t.Errorf("%d of %d answers were wrong, first: %s", len(d.wrong), d.asked.Load(), d.wrong[0])
	}
	d.t.Logf("%d answers", d.asked.Load())
}
