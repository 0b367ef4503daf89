package docs_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

// stage is where the commands of a document are run, one after the other in one shell's state: servers of their own, an empty directory, both programs on PATH.
type stage struct {
	document    string
	definitions string // variables and functions so far

	source     *source
	dir        string
	admins     map[string]string // program → address of the private listener of the last one started
	replicator *testenv.Program
	decide     string // address of a decide that the document takes for granted
}

// prints are outputs that matter, by how the command begins. A pattern that is empty wants nothing to be printed.
var prints = []struct{ command, pattern string }{
	{`flags "$DECIDE"`, `"new-checkout": \{`},
	{`diff <(flags "$POSTHOG")`, ""},
	{"while read -r person", ""},
	{"curl --silent --output /dev/null --dump-header", "(?i)^x-everflag-version: "},
	{`decide --redis-url "$REDIS_URL" eval`, "new-checkout"},
	{`replicator --postgres-url "$POSTGRES_URL" --redis-url "$REDIS_URL" setup --print-sql`, "CREATE ROLE"},
}

// checkPrinted holds a command's output to prints.
func checkPrinted(t *testing.T, command, output string) {
	t.Helper()
	for _, p := range prints {
		if strings.HasPrefix(command, p.command) && (p.pattern == "" && output != "" || !regexp.MustCompile(p.pattern).MatchString(output)) {
			t.Errorf("%s\nprinted %q, want %q", command, output, p.pattern)
		}
	}
}

// real gives the command the addresses of this test in the place of the document's.
func (s *stage) real(t *testing.T, command string) string {
	t.Helper()
	s.open(t)
	// A decide stands for PostHog in comparisons: of two decides no user notices anything.
	for _, change := range [][2]string{
		{"https://posthog.example.com", s.decide},
		{"http://decide.example.com:8000", s.decide},
		{"phc_…", testenv.DemoToken},
		{"postgres://owner@db/posthog", s.source.db.URL},
		{"/var/lib/everflag", s.dir},
	} {
		if strings.Contains(command, change[0]) && change[1] == "" {
			s.follow(t)
			return s.real(t, command)
		}
		command = strings.ReplaceAll(command, change[0], change[1])
	}
	return command
}

// prepare brings about what the document takes for granted at a command.
func (s *stage) prepare(t *testing.T, command string) {
	t.Helper()
	s.open(t)
	switch {
	case strings.Contains(command, "<people.jsonl"):
		people := `{"distinct_id": "ada", "person_properties": {"plan": "pro"}}` + "\n" + `{"distinct_id": "joseph"}` + "\n"
		if err := os.WriteFile(filepath.Join(s.dir, "people.jsonl"), []byte(people), 0o600); err != nil {
			t.Fatal(err)
		}
	case strings.HasSuffix(command, " teardown") && s.replicator != nil:
		s.replicator.Kill(t) // "stop the replicators"
	}
}

// open starts the servers. They are not shared, since documents create roles and slots by their real names.
func (s *stage) open(t *testing.T) {
	t.Helper()
	if s.source != nil {
		return
	}
	s.dir, s.admins = t.TempDir(), map[string]string{}
	s.source = &source{db: testenv.PostgresServer(t, testenv.PGOptions{}).Database(t), redis: testenv.Redis(t)}
	testenv.LoadSchema(t, s.source.db, testenv.Schema2026)
	testenv.LoadSeed(t, s.source.db, testenv.Schema2026)
	for _, program := range []string{"replicator", "decide"} {
		if err := os.Symlink(testenv.Build(t, "cmd/"+program), filepath.Join(s.dir, program)); err != nil {
			t.Fatal(err)
		}
	}
}

// follow starts a replicator and a decide before the document's own commands.
func (s *stage) follow(t *testing.T) {
	t.Helper()
	s.replicator = s.start(t, "replicator run")
	port, adminPort := testenv.FreePort(t), testenv.FreePort(t)
	s.source.decide(t, "127.0.0.1", port, adminPort)
	testenv.Eventually(t, patience, func() error { return wantStatus("http://127.0.0.1:"+adminPort+"/readyz", http.StatusOK) })
	s.decide = "http://127.0.0.1:" + port
}

// start runs a command that serves, and waits until it is ready.
func (s *stage) start(t *testing.T, command string) *testenv.Program {
	t.Helper()
	s.open(t)
	program, _, _ := strings.Cut(command, " ")
	s.admins[program] = "127.0.0.1:" + testenv.FreePort(t)
	p := testenv.Run(t, "bash", s.environment(t), "-euo", "pipefail", "-c", s.definitions+"cd "+s.dir+"\nexec "+s.real(t, command))
	testenv.Eventually(t, patience, func() error { return wantStatus("http://"+s.admins[program]+"/readyz", http.StatusOK) })
	t.Logf("runs: %s", command)
	return p
}

// environment names the servers of this stage to the programs; settings in a command still win.
func (s *stage) environment(t *testing.T) []string {
	t.Helper()
	env := []string{
		"PATH=" + s.dir + ":" + os.Getenv("PATH"), "HOME=" + s.dir, "POSTGRES_URL=" + s.source.db.URL, "REDIS_URL=" + s.source.redis.URL,
		"REPLICATOR_KEY_PREFIX=" + s.source.redis.Prefix, "DECIDE_KEY_PREFIX=" + s.source.redis.Prefix, "DECIDE_ADDR=127.0.0.1:0", "DECIDE_DRAIN_DELAY=0s",
		"REPLICATOR_POSTGRES_URL=" + s.source.db.URL, "REPLICATOR_REDIS_URL=" + s.source.redis.URL,
	}
	for program, address := range s.admins {
		name := strings.ToUpper(program)
		env = append(env, name+"_ADMIN_ADDR="+address, name+"_ADMIN_URL=http://"+address)
	}
	return env
}
