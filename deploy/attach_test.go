package deploy_test

import (
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// running is a program with its private listener, and decide's public one.
type running struct {
	*testenv.Program
	admin, flags string
}

// attached is an installation as docs/operations.md describes it: a database that was there before, a role with few rights, two replicators, three decides.
type attached struct {
	pg          *testenv.PGServer
	redis       *testenv.RedisInstance
	settings    []string
	snapshots   string
	replicators []*running
	decides     []*running
}

const settle = 30 * time.Second

func attach(t *testing.T) *attached {
	t.Helper()
	in := &attached{pg: testenv.PostgresServer(t, testenv.PGOptions{}), redis: testenv.RedisServer(t, testenv.RedisOptions{}), snapshots: t.TempDir()}
	db := in.pg.Database(t)
	testenv.LoadSchema(t, db, testenv.Schema2026)
	testenv.LoadSeed(t, db, testenv.Schema2026)
	printed, err := exec.Command(testenv.Build(t, "cmd/replicator"), "--postgres-url", db.URL, "setup", "--print-sql", "--role", "flagreader").Output()
	if err != nil {
		t.Fatalf("printing the SQL: %v", err)
	}
	for _, statement := range strings.SplitAfter(string(printed), ";\n") { // one by one, as psql does
		db.Exec(t, statement)
	}
	in.settings = []string{"REPLICATOR_POSTGRES_URL=" + as(t, db.URL, "flagreader", "change me"), "REPLICATOR_REDIS_URL=" + in.redis.URL, "REPLICATOR_NO_SETUP=true"}
	in.replicators = []*running{in.replicate(t, "leader ready"), in.replicate(t, "standby ready")}
	for i := range 3 {
		in.decides = append(in.decides, in.decide(t, i))
	}
	return in
}

// replicate starts a replicator and waits until its page says so.
func (in *attached) replicate(t *testing.T, state string) *running {
	t.Helper()
	p := &running{admin: "127.0.0.1:" + testenv.FreePort(t)}
	p.Program = testenv.Run(t, testenv.Build(t, "cmd/replicator"), in.settings, "run", "--admin-addr", p.admin)
	p.shows(t, "state", state)
	return p
}

func (in *attached) decide(t *testing.T, i int) *running {
	t.Helper()
	p := &running{admin: "127.0.0.1:" + testenv.FreePort(t), flags: "127.0.0.1:" + testenv.FreePort(t)}
	p.Program = testenv.Run(t, testenv.Build(t, "cmd/decide"), []string{
		"DECIDE_REDIS_URL=" + in.redis.URL, "DECIDE_SNAPSHOT_FILE=" + filepath.Join(in.snapshots, fmt.Sprint(i)),
	}, "serve", "--admin-addr", p.admin, "--addr", p.flags, "--drain-delay", "0s")
	testenv.Eventually(t, settle, func() error { return mentions(p.flags, "dark-mode") })
	p.shows(t, "turns", "following Redis") // which is looked at every second
	return p
}

var tags = regexp.MustCompile(`<[^>]*>|\s+`)

// text is what the page shows from the given id on, on one line.
func (p *running) text(id string) (string, error) {
	response, err := http.Get("http://" + p.admin + "/") //nolint:noctx // because it is an address of this test, which bounds it
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }() // nothing is left in it
	page, err := io.ReadAll(response.Body)
	_, part, found := strings.Cut(string(page), `id="`+id+`"`)
	if _, part, _ = strings.Cut(part, ">"); !found {
		return "", errors.Join(err, fmt.Errorf("the page has no %q", id))
	}
	part = tags.ReplaceAllString(part, " ")
	return html.UnescapeString(strings.Join(strings.Fields(part), " ")), err
}

// shows waits until the page shows the texts in their order, from the given id on.
func (p *running) shows(t *testing.T, id string, texts ...string) {
	t.Helper()
	testenv.Eventually(t, settle, func() error {
		page, err := p.text(id)
		rest := page
		for _, text := range texts {
			_, after, found := strings.Cut(rest, text)
			if !found {
				return errors.Join(err, fmt.Errorf("no %q in its place in %s", text, page))
			}
			rest = after
		}
		return err
	})
}

// TestAttach attaches everflag to a database with data, with what docs/operations.md says and nothing else, and loses one of each. What happened is read
// from the pages alone.
func TestAttach(t *testing.T) {
	t.Parallel()
	in := attach(t)
	first, second := in.replicators[0], in.replicators[1]
	first.shows(t, "state", "leader ready", "This replicator leads, and has for", "Leader this one leader since", "Last reconcile", "the cache is empty")
	second.shows(t, "state", "standby ready", "Another replicator leads", "in use by process", "Leader another one standby since")
	for _, d := range in.decides {
		d.shows(t, "state", "following Redis", "up to date", "complete written by", "Changes of state", "following Redis")
	}

	// The leader goes.
	first.Kill(t)
	second.shows(t, "state", "leader ready", "This replicator leads", "Changes of state", "it has taken over from another replicator", "standby ready", "in use by process")
	for _, d := range in.decides {
		d.shows(t, "turns", "following Redis the cache is written by", "following Redis")
	}
	third := in.replicate(t, "standby ready")
	in.replicators = []*running{second, third}

	// One decide goes: the others answer, and a new one does.
	in.decides[0].Kill(t)
	for _, d := range in.decides[1:] {
		if err := mentions(d.flags, "dark-mode"); err != nil {
			t.Error(err)
		}
	}
	in.decides[0] = in.decide(t, 0)

	// Redis goes and comes back.
	in.redis.Kill(t)
	second.shows(t, "trouble", "Not ready:", "the cache cannot be written")
	second.shows(t, "turns", "leader not ready the cache cannot be written", "it has taken over") // which is looked at every second
	for _, d := range in.decides {
		d.shows(t, "state", "serving from memory", "Redis does not answer. Clients get the last definitions", "Since", "Changes of state", "serving from memory")
	}
	in.redis.Start(t)
	leader := in.leader(t) // either: the other one may be quicker to find Redis empty
	leader.shows(t, "turns", "leader ready", "not ready")
	for _, d := range in.decides {
		d.shows(t, "turns", "following Redis", "serving from memory", "following Redis")
	}

	// Postgres goes and comes back.
	in.pg.Kill(t)
	leader.shows(t, "state", "connecting", "not ready", "Clients are served from the cache meanwhile", "Not ready: no session")
	for _, d := range in.decides {
		d.shows(t, "state", "Changes of state", "following Redis, not fresh", "no replicator confirms")
	}
	in.pg.Start(t)
	leader = in.leader(t)
	leader.shows(t, "turns", "leader ready", "connecting not ready no session")
	for _, d := range in.decides {
		d.shows(t, "state", "following Redis", "up to date", "Changes of state", "following Redis", "following Redis, not fresh", "no replicator confirms")
	}
}

// leader waits until one of the replicators that live leads and is ready.
func (in *attached) leader(t *testing.T) (leader *running) {
	t.Helper()
	testenv.Eventually(t, settle, func() error {
		for _, p := range in.replicators {
			if page, err := p.text("state"); err == nil && strings.HasPrefix(page, "leader ready") {
				leader = p
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return leader
}
