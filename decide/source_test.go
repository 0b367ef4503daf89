package decide

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreCurrent(), // the OpenFeature SDK listens for events from its init on
		goleak.IgnoreAnyFunction("github.com/dlclark/regexp2.runClock"), // which ends by itself, a while after the last search
	)
}

// fakeSource is a Source over records in memory.
type fakeSource struct {
	mu       sync.Mutex
	teams    map[string]*flagcache.Team
	programs map[string]*eval.Program
	unknown  Lookup // the answer for every other token
	position Position
	rules    eval.Rules
}

func newFakeSource(rules eval.Rules) *fakeSource {
	return &fakeSource{
		teams: map[string]*flagcache.Team{}, programs: map[string]*eval.Program{}, unknown: Absent, rules: rules,
		position: Position{Ready: true, Checkpoint: "0000000000000001:0000000000000FFF"},
	}
}

func (s *fakeSource) Program(token string) (*eval.Program, Lookup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.programs[token]; ok {
		return p, Found
	}
	return nil, s.unknown
}

func (s *fakeSource) Records(token string) (*flagcache.Team, Lookup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.teams[token]; ok {
		return t, Found
	}
	return nil, s.unknown
}

func (s *fakeSource) Position() Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position
}

func (s *fakeSource) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// put makes the team served under the token.
func (s *fakeSource) put(token string, team *flagcache.Team) {
	s.set(func() {
		s.teams[token] = team
		s.programs[token] = eval.Compile(team, eval.Options{Rules: s.rules})
	})
}

// testVersion is the version of the teams of newTeam.
const testVersion = "0000000000000001:0000000000000ABC"

// newTeam is team 1 with the flags, each the members of its record beside id, team_id, version, deleted and active; the first has id 1.
func newTeam(t testing.TB, token, teamMembers string, flags ...string) *flagcache.Team {
	t.Helper()
	team := &flagcache.Team{ID: 1, Version: testVersion}
	team.Team = object(t, fmt.Sprintf(`{"id":1,"project_id":1,"api_token":%q}`, token), teamMembers)
	for i, members := range flags {
		id := fmt.Sprint(i + 1)
		base := `{"id":` + id + `,"team_id":1,"version":1,"deleted":false,"active":true,"name":"","ensure_experience_continuity":false,"filters":{"groups":[]}}`
		team.Flags = append(team.Flags, flagcache.Record{Key: id, JSON: object(t, base, members)})
	}
	return team
}

// object merges members, given as `"name":value,…`, into the JSON object.
func object(t testing.TB, base, members string) []byte {
	t.Helper()
	var merged map[string]json.RawMessage
	for _, text := range []string{base, "{" + members + "}"} {
		if err := json.Unmarshal([]byte(text), &merged); err != nil {
			t.Fatalf("test data %s: %v", text, err)
		}
	}
	out, err := json.Marshal(merged)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// everyone is a flag that is on for everybody, named key.
func everyone(key string) string {
	return fmt.Sprintf(`"key":%q,"filters":{"groups":[{"properties":[],"rollout_percentage":100}]}`, key)
}

// plan is a flag that needs the person property plan to be "pro".
func plan(key string) string {
	return fmt.Sprintf(`"key":%q,"filters":{"groups":[{"properties":[{"key":"plan","type":"person","operator":"exact","value":["pro"]}],"rollout_percentage":100}]}`, key)
}

// newHandler is a handler over the source, with its metrics.
func newHandler(t testing.TB, cfg Config, source Source) (*Handler, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	return New(cfg, source, zap.NewNop(), NewMetrics(registry)), registry
}

// newTestHandler is a handler over one team with the token phc_test and the flags.
func newTestHandler(t testing.TB, cfg Config, flags ...string) (*Handler, *fakeSource) {
	t.Helper()
	source := newFakeSource(cfg.Rules)
	source.put("phc_test", newTeam(t, "phc_test", "", flags...))
	h, _ := newHandler(t, cfg, source)
	return h, source
}

// call is one request; headers are name and value in turn.
func call(h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// jsonOf decodes an answer.
func jsonOf(t testing.TB, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("answer %d %q: %v", w.Code, w.Body, err)
	}
	return v
}

// readTestdata decodes a file of testdata strictly.
func readTestdata(t testing.TB, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}
