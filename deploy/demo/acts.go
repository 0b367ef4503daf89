package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	posthogsql "github.com/everflag/everflag/deploy/sql"
)

// editedFlag is a plain rollout flag of the seed's demo team.
const editedFlag = "new-checkout"

// users are the two whose flags are shown, with what their SDK would send of them.
var users = []struct{ name, request string }{
	{"ada", `"person_properties":{"email":"ada@example.com","country":"GB","plan":"free"}`},
	{"grace", `"person_properties":{"email":"grace@acme.test","country":"US","plan":"enterprise"},"groups":{"company":"acme"},` +
		`"group_properties":{"company":{"plan":"enterprise","seats":250}}`},
}

type answer struct {
	Flags map[string]struct {
		Enabled bool
		Failed  bool
		Variant *string
		Reason  struct{ Description string }
	}
	Errors bool `json:"errorsWhileComputingFlags"`
}

func (a answer) value(key string) string {
	f, ok := a.Flags[key]
	switch {
	case !ok:
		return "-"
	case f.Failed:
		return "(unknown)"
	case f.Variant != nil:
		return *f.Variant
	}
	return fmt.Sprint(f.Enabled)
}

// String shows every flag in a fixed order, so that two answers can be compared.
func (a answer) String() string {
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(a.Flags)) {
		fmt.Fprintf(&text, "%s=%s ", key, a.value(key))
	}
	return text.String()
}

// ask gets one user's flags from one decide process.
func ask(ctx context.Context, p *program, user int) (answer, error) {
	var a answer
	body := fmt.Sprintf(`{"token":%q,"distinct_id":%q,%s}`, posthogsql.DemoToken, users[user].name, users[user].request)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.addr+"/flags/?v=2", strings.NewReader(body))
	if err != nil {
		return a, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return a, err
	}
	content, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // the body has been read
	if err != nil {
		return a, err
	}
	if response.StatusCode != http.StatusOK {
		return a, fmt.Errorf("%s answered %s: %s", p.name, response.Status, bytes.TrimSpace(content))
	}
	return a, json.Unmarshal(content, &a)
}

func showFlags(ctx context.Context, s *stage) error {
	answers := make([]answer, len(users))
	for i := range users {
		var err error
		if answers[i], err = ask(ctx, s.decide[i], i); err != nil {
			return err
		}
	}
	fmt.Printf("   %-24s %-16s %-16s\n", "", users[0].name, users[1].name)
	for _, key := range slices.Sorted(maps.Keys(answers[0].Flags)) {
		fmt.Printf("   %-24s %-16s %-16s\n", key, answers[0].value(key), answers[1].value(key))
	}
	return nil
}

// remember keeps what every user gets from every process, for comparison.
func (s *stage) remember(ctx context.Context) error {
	s.answers = nil
	for i := range 2 * len(users) {
		a, err := ask(ctx, s.decide[i%2], i/2)
		if err != nil {
			return err
		}
		s.answers = append(s.answers, a.String())
	}
	return nil
}

func editFlag(ctx context.Context, s *stage) error {
	const edits = 20
	sql := `UPDATE posthog_featureflag SET filters = jsonb_set(filters, '{groups,0,rollout_percentage}', $1) WHERE key = '` + editedFlag + `'`
	fmt.Printf("   UPDATE posthog_featureflag SET filters = … rollout_percentage … WHERE key = '%s'\n", editedFlag)
	times := make([]time.Duration, 0, edits)
	for i := range edits {
		percentage, want := "0", "false"
		if i%2 == 1 {
			percentage, want = "100", "true"
		}
		if _, err := s.db.Exec(ctx, sql, percentage); err != nil {
			return err
		}
		took, err := s.served(ctx, want)
		if err != nil {
			return err
		}
		times = append(times, took)
	}
	slices.Sort(times)
	fmt.Printf("   Served by both decide processes %s after the commit (median of %d edits; slowest %s)\n", ms(times[edits/2]), edits, ms(times[edits-1]))
	return s.remember(ctx)
}

// served waits until both decide processes answer with the value and says how long that took.
func (s *stage) served(ctx context.Context, want string) (time.Duration, error) {
	committed := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, fmt.Errorf("%s = %s was not served within 20 s", editedFlag, want))
	defer cancel()
	var wait sync.WaitGroup
	errs := make([]error, len(s.decide))
	for i, p := range s.decide {
		wait.Go(func() {
			for {
				a, err := ask(ctx, p, 0)
				if ctx.Err() != nil {
					errs[i] = context.Cause(ctx)
					return
				}
				if err != nil || a.value(editedFlag) == want {
					errs[i] = err
					return
				}
			}
		})
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return time.Since(committed), nil
}

func killPostgres(ctx context.Context, s *stage) error {
	if err := s.postgres.Kill(ctx); err != nil {
		return err
	}
	return s.stillAnswering(ctx, 2000)
}

func killRedis(ctx context.Context, s *stage) error {
	if err := s.redis.Kill(ctx); err != nil {
		return err
	}
	return s.stillAnswering(ctx, 2000)
}

func restartDecide(ctx context.Context, s *stage) error {
	old := s.decide[1]
	if err := old.stop(ctx, syscall.SIGTERM); err != nil {
		return err
	}
	started := time.Now()
	p, err := s.startDecide(1)
	if err != nil {
		return err
	}
	s.decide[1] = p
	if err := p.ready(ctx); err != nil {
		return err
	}
	fmt.Printf("   Ready from its snapshot file after %s\n", ms(time.Since(started)))
	return s.stillAnswering(ctx, 1000)
}

// stillAnswering sends requests in turn to both processes and compares every answer with the one before the outage.
func (s *stage) stillAnswering(ctx context.Context, requests int) error {
	var slowest time.Duration
	for i := range requests {
		which := i % len(s.answers)
		started := time.Now()
		a, err := ask(ctx, s.decide[which%2], which/2)
		if err != nil {
			return err
		}
		slowest = max(slowest, time.Since(started))
		if got := a.String(); got != s.answers[which] {
			return fmt.Errorf("the answer changed from %s to %s", s.answers[which], got)
		}
	}
	fmt.Printf("   %d requests: all answered, none changed, slowest %s\n", requests, ms(slowest))
	return nil
}

func bringBack(ctx context.Context, s *stage) error {
	if err := s.postgres.Start(ctx); err != nil {
		return err
	}
	if err := s.redis.Start(ctx); err != nil {
		return err
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	sql := `UPDATE posthog_featureflag SET filters = jsonb_set(filters, '{groups,0,rollout_percentage}', '0') WHERE key = '` + editedFlag + `'`
	if _, err := s.db.Exec(ctx, sql); err != nil {
		return err
	}
	took, err := s.served(ctx, "false")
	if err != nil {
		return err
	}
	fmt.Printf("   Redis came back empty and was filled again; an edit made meanwhile was served %s after its commit\n", ms(took))
	return nil
}

func ms(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}
