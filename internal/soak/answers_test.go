package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/oracle"
	"github.com/everflag/everflag/internal/testenv"
)

// said is the history of right answers.
type said struct {
	history *history
	at      map[string]map[string][]int // token → answer → states; guarded by the history, as all of this
	last    map[string]string
	nomads  []string // tokens of the nomad, the newest last
}

// maxNomads is how many tokens of the nomad are asked for.
const maxNomads = 4

func newSaid(h *history) *said {
	s := &said{history: h, at: map[string]map[string][]int{}, last: map[string]string{}}
	h.onCommit = s.add
	return s
}

// add notes the answers of a state.
func (s *said) add(index int, state oracle.State) {
	for token, owner := range state.Tokens {
		if owner == strconv.Itoa(nomad) && !slices.Contains(s.nomads, token) {
			s.nomads = append(s.nomads, token)
			if index > 0 {
				s.at[token] = map[string][]int{gone: {index - 1}} // until now
			}
		}
	}
	if len(s.nomads) > maxNomads {
		delete(s.at, s.nomads[0])
		s.nomads = slices.Clone(s.nomads[1:])
	}
	s.last = answers(state, append(steadyTokens(), s.nomads...))
	for token, answer := range s.last {
		if s.at[token] == nil {
			s.at[token] = map[string][]int{}
		}
		s.at[token][answer] = append(s.at[token][answer], index)
	}
}

// nomadic returns the tokens of the nomad, the newest last.
func (s *said) nomadic() []string {
	s.history.mu.Lock()
	defer s.history.mu.Unlock()
	return s.nomads
}

// judge finds the first state, not before floor, in which this was the answer.
func (s *said) judge(token, answer string, floor int) (shown int, err error) {
	shown = floor
	err = s.history.await(func() error {
		known := s.at[token][answer]
		switch {
		case s.at[token] == nil:
			return nil // a token of the nomad that is no longer followed
		case len(known) == 0:
			return fmt.Errorf("%s was never answered %q; now it is %q", token, answer, s.last[token])
		case known[len(known)-1] < floor:
			return fmt.Errorf("%s is answered as of state %d after one as of state %d: %q", token, known[len(known)-1], floor, answer)
		}
		at, _ := slices.BinarySearch(known, floor)
		shown = known[at]
		return nil
	})
	return shown, err
}

// front is a decide process that is asked all the time.
type front struct {
	t       *testing.T
	said    *said
	phase   *atomic.Int32
	env     []string
	addr    string
	admin   string
	network *testenv.Flaky
	client  http.Client

	program      *testenv.Program // owned by the test, as what follows
	slowestStart time.Duration
	seen         int // lines of its log that have been looked at

	away  atomic.Bool  // it is being restarted: no answer is no fault
	lives atomic.Int64 // a new life may begin with an older file
	asked atomic.Int64

	mu     sync.Mutex // guards what follows
	faults []error
	took   map[int32][]time.Duration // that answers took, by phase
}

func (f *front) start() {
	binary, began := testenv.Build(f.t, "cmd/decide"), time.Now()
	f.program, f.seen = testenv.Run(f.t, binary, f.env, "serve"), 0
	testenv.Eventually(f.t, settle, func() error { return f.ready(f.t.Context()) })
	f.slowestStart = max(f.slowestStart, time.Since(began))
	f.lives.Add(1)
	f.away.Store(false)
}

func (f *front) kill() {
	f.away.Store(true)
	f.program.Kill(f.t)
}

func (f *front) ready(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.admin+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := f.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// ask returns the flags that are on, as one text.
func (f *front) ask(ctx context.Context, token string) (map[string]string, string, error) {
	body := fmt.Sprintf(`{"token":%q,"distinct_id":"somebody"}`, token)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+f.addr+"/flags/?v=2", strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := f.client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, "", err
	}
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return nil, gone, nil
	case http.StatusServiceUnavailable:
		if strings.HasPrefix(token, "phc_nomad") {
			return nil, gone, nil // or not known to be there, which it must not say of one that is
		}
		fallthrough
	default:
		return nil, fmt.Sprintf("status %d: %s", response.StatusCode, text), nil
	}
	var decoded struct {
		Errors bool `json:"errorsWhileComputingFlags"`
		Flags  map[string]struct {
			Enabled  bool
			Failed   bool
			Metadata struct{ Payload *string }
		}
	}
	if err := json.Unmarshal(text, &decoded); err != nil {
		return nil, "", fmt.Errorf("%w in %s", err, text)
	}
	on := map[string]string{}
	for key, flag := range decoded.Flags {
		if flag.Failed {
			decoded.Errors = true
		}
		if flag.Enabled && flag.Metadata.Payload != nil {
			on[key] = *flag.Metadata.Payload
		}
	}
	if decoded.Errors {
		return on, "with errors: " + string(text), nil
	}
	return on, canonical(on), nil
}

// read asks for all steady teams and the nomad in turn until the context ends, and judges what it hears. While replaced is true, the cache may be an older one.
func (f *front) read(ctx context.Context, replaced *atomic.Bool) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	floors, kept := map[string]int{}, map[string]string{}
	var life int64
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if f.away.Load() {
			continue
		}
		if now := f.lives.Load(); now != life || replaced.Load() {
			life = now
			clear(floors)
		}
		tokens := append(steadyTokens(), f.said.nomadic()...)
		token, phase, start := tokens[i%len(tokens)], f.phase.Load(), time.Now()
		_, answer, err := f.ask(ctx, token)
		if f.away.Load() || ctx.Err() != nil {
			continue
		}
		f.asked.Add(1)
		if phase == f.phase.Load() {
			err = errors.Join(err, f.during(phase, time.Since(start), kept, token, answer))
		}
		if err == nil {
			var shown int
			if shown, err = f.said.judge(token, answer, floors[token]); err == nil {
				floors[token] = shown
			}
		}
		if err != nil && f.lives.Load() == life && !f.away.Load() {
			f.fault(err)
		}
	}
}

// during notes how long an answer took, and wants it to stay what it was while nothing can change. kept are the answers since then.
func (f *front) during(phase int32, took time.Duration, kept map[string]string, token, answer string) error {
	if phase == busy {
		clear(kept)
		return nil
	}
	f.mu.Lock()
	f.took[phase] = append(f.took[phase], took)
	f.mu.Unlock()
	if was, heard := kept[token]; phase == still && heard && was != answer {
		return fmt.Errorf("with all servers down %s was answered %q and then %q", token, was, answer)
	}
	if phase == still {
		kept[token] = answer
	}
	return nil
}

func (f *front) fault(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.faults) < 5 {
		f.faults = append(f.faults, fmt.Errorf("%s decide at %s: %w", time.Now().Format("15:04:05.000"), f.addr, err))
	}
}

func (f *front) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.faults...)
}

// inspect looks for panics in the log.
func (f *front) inspect() {
	lines := f.program.Logs()
	for _, line := range lines[min(f.seen, len(lines)):] {
		if strings.Contains(line, "panic") {
			f.t.Errorf("difference: a decide process panicked: %s", line)
		}
	}
	f.seen = len(lines)
}
