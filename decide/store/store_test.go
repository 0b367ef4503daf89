package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/internal/redisconn"
	"github.com/everflag/everflag/internal/testenv"
)

var _ decide.Source = (*Store)(nil)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// bundle is a store that follows a cache which the test writes.
type bundle struct {
	*Store
	w    *writer
	stop func()
}

// newClient returns a client as decide uses it.
func newClient(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	client, err := redisconn.Open(redisconn.Config{URL: url, ClientName: "everflag-decide", DialTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// setup returns a writer on a Redis of the test's own part of the shared server, and a store that does not run yet.
func setup(t testing.TB, change func(*Config)) *bundle {
	t.Helper()
	space := testenv.Redis(t)
	return setupAt(t, space.Client(t), space.URL, space.Prefix, change)
}

func setupAt(t testing.TB, client redis.UniversalClient, url, prefix string, change func(*Config)) *bundle {
	t.Helper()
	cfg := Config{Client: newClient(t, url), Prefix: prefix, Logger: zaptest.NewLogger(t, zaptest.Level(zapcore.InfoLevel))}
	if change != nil {
		change(&cfg)
	}
	return &bundle{Store: New(cfg), w: newWriter(t, client, prefix)}
}

// start runs the store until the test ends or stop is called.
func (b *bundle) start(t testing.TB) *bundle {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stopped := false
	b.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(b.stop)
	return b
}

// wants waits until the tokens have these answers: the team's mark, "absent" or "unavailable".
func (b *bundle) wants(t testing.TB, within time.Duration, answers map[string]string) {
	t.Helper()
	testenv.Eventually(t, within, func() error { return b.has(answers) })
}

// arrives waits until the position is that of the writer, which is told a moment after the answers have it.
func (b *bundle) arrives(t testing.TB) {
	t.Helper()
	want := fmt.Sprintf("%016d:%016X", b.w.epoch, b.w.lsn)
	testenv.Eventually(t, time.Second, func() error {
		if got := b.Position().Checkpoint; got != want {
			return fmt.Errorf("checkpoint %s, want %s", got, want)
		}
		return nil
	})
}

func (b *bundle) has(answers map[string]string) error {
	var problems []error
	for token, want := range answers {
		if got := b.answer(token); got != want {
			problems = append(problems, fmt.Errorf("token %s: %s, want %s", token, got, want))
		}
	}
	return errors.Join(problems...)
}

// answer describes the answer for a token in a word, checking on the way that the team is whole.
func (b *bundle) answer(token string) string {
	records, lookup := b.Records(token)
	switch lookup {
	case decide.Absent:
		return "absent"
	case decide.Unavailable:
		return "unavailable"
	}
	name := string(records.Team)
	mark := strings.TrimSuffix(name[strings.LastIndex(name[:strings.Index(name, `","timezone`)], " ")+1:], `","timezone":"UTC"}`)
	for _, flag := range records.Flags {
		if !strings.Contains(string(flag.JSON), fmt.Sprintf(`"name":%q`, mark)) {
			return fmt.Sprintf("half a team: mark %s with %s", mark, flag.JSON)
		}
	}
	if !strings.Contains(name, fmt.Sprintf("%q", token)) {
		return "the team of another token: " + name
	}
	return mark
}

func TestLoadAndFollow(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	if p := b.Position(); p.Ready {
		t.Error("ready before anything was loaded") // S15, S17
	}
	b.w.fill("one", definition{id: 1, mark: "a", flags: 3}, definition{id: 2, mark: "b"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_2": "b", "phc_3": "absent"})
	if p := b.Position(); !p.Ready || p.Checkpoint == "" || p.Stale != 0 {
		t.Errorf("Position = %+v", p)
	}
	program, lookup := b.Program("phc_1")
	if lookup != decide.Found || program.TeamID() != 1 {
		t.Errorf("Program = %v, %v", program, lookup)
	}

	start := time.Now()
	b.w.put(definition{id: 1, mark: "c", flags: 2}, definition{id: 3, mark: "d"})
	b.wants(t, time.Second, map[string]string{"phc_1": "c", "phc_2": "b", "phc_3": "d"})
	t.Logf("committed → served: %v", time.Since(start))
	b.w.remove(2)
	b.wants(t, time.Second, map[string]string{"phc_1": "c", "phc_2": "absent", "phc_3": "d"})
	b.w.put(definition{id: 1, token: "phc_new", mark: "e", flags: 1}) // a rotated token
	b.wants(t, time.Second, map[string]string{"phc_1": "absent", "phc_new": "e"})
	b.arrives(t)
	if s := b.Status(); s.Source != "redis" || s.Teams != 2 || !s.Certain || s.Error != "" || s.LastChange == nil || s.LastCommit == nil {
		t.Errorf("Status = %+v", s)
	}
}

// A panic while definitions are taken in is an error like others: what is served stays.
func TestContained(t *testing.T) {
	t.Parallel()
	var d *draft
	err := contained(func() error { d.teams[1] = nil; return nil })
	if err == nil || !strings.Contains(err.Error(), "panic: runtime error") {
		t.Errorf("contained = %v", err)
	}
	if err := contained(func() error { return errMoved }); !errors.Is(err, errMoved) {
		t.Errorf("contained = %v, want what the function returned", err)
	}
}
