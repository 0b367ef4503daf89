package deploy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// patience is for a machine with much else to do: a scrape that takes too long is a target that is down.
const patience = 2 * time.Minute

// promServer is a Prometheus that runs with the files of deploy/prometheus.
type promServer struct{ address string }

// startPrometheus starts Debian's with our configuration and rules. What differs from the files is the place of the targets, and time: a scrape each
// half second, and an alert waits for 1 s instead of minutes.
func startPrometheus(t *testing.T, targets map[string]string) *promServer {
	t.Helper()
	binary := testenv.Tool(t, "prometheus", "prometheus")
	dir := t.TempDir()
	config := regexp.MustCompile(`_interval: \d+s`).ReplaceAllString(read(t, "prometheus/prometheus.yml"), "_interval: 500ms")
	for name, address := range targets {
		before := config
		if config = strings.ReplaceAll(config, `"`+name+`"`, `"`+address+`"`); config == before {
			t.Fatalf("prometheus.yml has no target %s", name)
		}
	}
	rules := regexp.MustCompile(`(?m)^( +for:) \d+[mh]$`).ReplaceAllString(read(t, "prometheus/everflag.rules.yml"), "$1 1s")
	for file, text := range map[string]string{"prometheus.yml": config, "everflag.rules.yml": rules} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := &promServer{address: "127.0.0.1:" + testenv.FreePort(t)}
	testenv.Run(t, binary, nil, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+s.address, "--log.level=warn")
	testenv.Eventually(t, patience, func() error { return get("http://" + s.address + "/-/ready") })
	return s
}

// api asks the HTTP API and decodes the data of the answer.
func (s *promServer) api(path string, data any) error {
	response, err := http.Get("http://" + s.address + "/api/v1/" + path) //nolint:noctx // because it is an address of this test, which bounds it
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // nothing is left in it
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return nil
}

// query returns the number of series that an expression has now.
func (s *promServer) query(expr string) (int, error) {
	var data struct{ Result []json.RawMessage }
	err := s.api("query?query="+url.QueryEscape(expr), &data)
	return len(data.Result), err
}

// healthy is nil if every target is scraped and every rule evaluates.
func (s *promServer) healthy(targets int) error {
	var found struct {
		ActiveTargets []struct{ ScrapeURL, Health, LastError string }
	}
	if err := s.api("targets", &found); err != nil {
		return err
	}
	for _, one := range found.ActiveTargets {
		if one.Health != "up" {
			return fmt.Errorf("%s is %s: %s", one.ScrapeURL, one.Health, one.LastError)
		}
	}
	if len(found.ActiveTargets) != targets {
		return fmt.Errorf("%d targets, want %d", len(found.ActiveTargets), targets)
	}
	var loaded struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := s.api("rules", &loaded); err != nil {
		return err
	}
	for _, group := range loaded.Groups {
		for _, rule := range group.Rules {
			if rule.Health != "ok" {
				return fmt.Errorf("rule %s is %s: %s", rule.Name, rule.Health, rule.LastError)
			}
		}
	}
	if len(loaded.Groups) == 0 {
		return errors.New("no rules")
	}
	return nil
}

// firing returns the alerts that fire, but for those of severity info: requests of the test lack properties that flags ask for.
func (s *promServer) firing() (names []string, err error) {
	var data struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	err = s.api("alerts", &data)
	for _, a := range data.Alerts {
		if a.State == "firing" && a.Labels["severity"] != "info" {
			names = append(names, a.Labels["alertname"])
		}
	}
	return names, err
}

// quiet is nil if no alert fires.
func (s *promServer) quiet() error {
	names, err := s.firing()
	if err == nil && names != nil {
		err = fmt.Errorf("firing: %v", names)
	}
	return err
}

// tells is nil if the alerts fire. Others may follow, since here none waits for minutes.
func (s *promServer) tells(want ...string) error {
	names, err := s.firing()
	for _, name := range want {
		if err == nil && !slices.Contains(names, name) {
			err = fmt.Errorf("%s does not fire, but %v", name, names)
		}
	}
	return err
}

// TestPrometheus runs the real Prometheus with our files against the real programs: targets are up, rules evaluate, each panel of the dashboard shows
// something, and the loss of a program or of Redis is told by the alerts that are for it, which end with it.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	db, rd := testenv.Postgres(t), testenv.RedisServer(t, testenv.RedisOptions{})
	testenv.LoadSchema(t, db, testenv.Schema2026)
	testenv.LoadSeed(t, db, testenv.Schema2026)
	targets := map[string]string{}
	for _, name := range []string{"replicator:9464", "decide-1:9465", "decide-2:9465"} {
		targets[name] = "127.0.0.1:" + testenv.FreePort(t)
	}
	prometheus := startPrometheus(t, targets)
	settings := []string{"REPLICATOR_POSTGRES_URL=" + db.URL, "REPLICATOR_REDIS_URL=" + rd.URL, "REPLICATOR_ADMIN_ADDR=" + targets["replicator:9464"], "REPLICATOR_SLOT=" + db.Name}
	start := func() *testenv.Program {
		return testenv.Run(t, testenv.Build(t, "cmd/replicator"), settings, "run", "--verify-every", "1s")
	}
	replicator := start()
	flags := map[string]string{}
	for _, name := range []string{"decide-1", "decide-2"} {
		flags[name] = "127.0.0.1:" + testenv.FreePort(t)
		testenv.Run(t, testenv.Build(t, "cmd/decide"), []string{
			"DECIDE_REDIS_URL=" + rd.URL, "DECIDE_ADDR=" + flags[name], "DECIDE_ADMIN_ADDR=" + targets[name+":9465"],
			"DECIDE_SNAPSHOT_FILE=" + filepath.Join(t.TempDir(), "snapshot"),
		}, "serve")
	}
	testenv.Eventually(t, patience, func() error { return prometheus.healthy(3) })

	// work is what a small installation does all the time.
	n := 0
	work := func() {
		n++
		db.Exec(t, fmt.Sprintf("UPDATE posthog_featureflag SET name = 'change %d' WHERE id = (SELECT min(id) FROM posthog_featureflag WHERE team_id = 1)", n))
		for _, address := range flags {
			if err := ask("http://" + address); err != nil {
				t.Error(err)
			}
		}
	}
	testenv.Eventually(t, patience, func() error {
		work()
		return prometheus.panelsShowSomething(t)
	})
	testenv.Eventually(t, patience, func() error { return prometheus.quiet() })

	replicator.Signal(t, syscall.SIGKILL)
	replicator.Wait(t)
	testenv.Eventually(t, patience, func() error { return prometheus.tells("EverflagNoLeader", "EverflagReplicatorDown") })
	start()
	testenv.Eventually(t, patience, func() error { return get("http://" + targets["replicator:9464"] + "/readyz") })
	testenv.Eventually(t, patience, func() error { return prometheus.quiet() })

	rd.Kill(t)
	testenv.Eventually(t, patience, func() error { return prometheus.tells("EverflagDecideNotFollowing", "EverflagRedisWriteErrors") })
}

// rare are the series that begin with the first event of a kind, which a healthy installation does not have, or with the first snapshot file, after 30 s.
var rare = regexp.MustCompile(`class!="2xx"|_(?:redis_errors|session_ends)_total|_snapshot_timestamp_`)

// panelsShowSomething is nil if each query of the dashboard has a result.
func (s *promServer) panelsShowSomething(t *testing.T) error {
	t.Helper()
	var empty []string
	d := readDashboard(t)
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			found, err := s.query(q.promQL())
			if err != nil {
				t.Fatalf("panel %s: %v", p.Title, err)
			}
			if found == 0 && !rare.MatchString(q.Expr) {
				empty = append(empty, p.Title+": "+q.Expr)
			}
		}
	}
	for _, a := range d.Annotations.List {
		if _, err := s.query(a.promQL()); err != nil { // none while all is well
			t.Fatalf("annotation: %v", err)
		}
	}
	if empty != nil {
		return fmt.Errorf("nothing in %d queries:\n%s", len(empty), strings.Join(empty, "\n"))
	}
	return nil
}
