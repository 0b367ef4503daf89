package docs_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

// elsewhere are commands that this package does not run, and why. Everything else in a block of shell is run.
var elsewhere = map[string]string{
	"docker compose up --build --detach": "make test-compose brings the file up, with stand-ins for images that cannot be pulled",
	`docker compose exec postgres psql -U postgres posthog -c "UPDATE posthog_featureflag SET active = NOT active WHERE key = 'new-checkout'"`: "make test-compose " +
		"changes a flag in the same way; TestStatements runs the statement",
	"for program in replicator decide; do\n  docker tag everflag/$program:0.1.0 registry.example.com/everflag/$program:0.1.0\n" +
		"  docker push registry.example.com/everflag/$program:0.1.0\ndone": "needs a registry; TestManualInstallsTheChart compares with the images that the chart names",
	"kubectl create namespace flags": "needs a cluster",
	`kubectl --namespace flags create secret generic everflag-replicator --from-literal=postgres-url="$POSTGRES_URL" --from-literal=redis-url="$REDIS_URL"`: "needs a cluster; " +
		"TestManualInstallsTheChart compares with the secrets that the chart mounts",
	`kubectl --namespace flags create secret generic everflag-decide --from-literal=redis-url="$REDIS_URL"`: "as before",
	"helm install everflag deploy/helm/everflag --namespace flags --set image.registry=registry.example.com --set replicator.env.REPLICATOR_NO_SETUP=true": "needs a cluster; " +
		".ci/helm renders what it installs",
}

// targets are those of make that CI does not call by name, and where their work is done instead.
var targets = map[string]string{
	"help":         "TestMakeHelp",
	"check":        "is .ci/run",
	"release":      ".ci/reproducible, in .ci/run, does it twice",
	"reproducible": ".ci/run calls .ci/reproducible",
	"bench":        "half an hour of measuring; .ci/run vets it",
	"test-clients": ".ci/run installs the clients, and make test runs their tests",
	"test-docker":  "needs an engine for containers",
	"test-valkey":  "wants Valkey; the same tests as make test",
	"test-matrix":  "the same tests on five majors; CI has two of them",
	"images":       "needs an engine for containers; test-compose builds them",
	"test-compose": "needs an engine for containers",
	"screenshots":  "make test visits the same pages",
}

// TestShell runs every command of every block of shell, document by document, each against servers of its own.
func TestShell(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("real programs run without -short")
	}
	for program, debianPackage := range map[string]string{"psql": "postgresql-client", "curl": "curl", "jq": "jq", "openssl": "openssl"} {
		testenv.Tool(t, debianPackage, program)
	}
	for _, d := range documents(t) {
		if d.path == "CHANGELOG.md" {
			continue
		}
		t.Run(d.path, func(t *testing.T) {
			t.Parallel()
			s := &stage{document: d.path}
			for _, b := range d.blocks {
				switch {
				case b.language == "sh":
					for _, command := range commands(t, b.text) {
						s.do(t, command)
					}
				case b.language == "" && d.path != "docs/cache-schema.md": // whose blocks a test prints
					t.Errorf("line %d: a block without a language could hide commands", b.line)
				case b.language == "bash" || b.language == "shell" || b.language == "console":
					t.Errorf("line %d: call the language sh", b.line)
				}
			}
		})
	}
}

// comment is what stands behind a command, or alone.
var comment = regexp.MustCompile(`(?m)(^|\s\s+)# .*$`)

// commands splits shell into the shortest pieces that bash takes for complete.
func commands(t *testing.T, text string) []string {
	t.Helper()
	var found []string
	piece := ""
	for _, line := range strings.Split(comment.ReplaceAllString(text, ""), "\n") {
		if strings.TrimSpace(line) == "" && piece == "" {
			continue
		}
		piece += line + "\n"
		if strings.HasSuffix(line, `\`) || exec.Command("bash", "-n", "-c", piece).Run() != nil {
			continue
		}
		found = append(found, strings.TrimSpace(piece))
		piece = ""
	}
	if piece != "" {
		t.Errorf("not complete: %s", piece)
	}
	return found
}

func TestCommands(t *testing.T) {
	t.Parallel()
	got := commands(t, "a 'x # y'   # why\n\nf() { b |\n  c; }\nwhile read -r x; do\n  d\ndone <y\ne \\\n  --f\n")
	if want := "a 'x # y'|f() { b |\n  c; }|while read -r x; do\n  d\ndone <y|e \\\n  --f"; strings.Join(got, "|") != want {
		t.Errorf("commands are %q", got)
	}
}

var (
	environment = `^(?:[A-Z_]+=(?:'[^']*'|\S)*\s+)*`
	ofMake      = regexp.MustCompile(environment + `make ([a-z-]+)`)
	ofGo        = regexp.MustCompile(environment + `go (test|run) (.*)$`)
	definition  = regexp.MustCompile(`^(?:\w+\(\) \{|(?:\w+=(?:"[^"]*"|\$\([^)]*\)|\S)*\s*)+$)`)
	daemon      = regexp.MustCompile(`^(?:replicator (?:.* )?run\b|decide (?:--\S+ \S+ ?)*$)`)
)

// do runs a command, or says who does.
func (s *stage) do(t *testing.T, command string) {
	t.Helper()
	switch {
	case elsewhere[command] != "":
	case ofMake.MatchString(command):
		checkTarget(t, s.document, ofMake.FindStringSubmatch(command)[1])
	case ofGo.MatchString(command):
		checkGo(t, ofGo.FindStringSubmatch(command)[2])
	case definition.MatchString(command):
		s.definitions += s.real(t, command) + "\n"
	case daemon.MatchString(command):
		s.start(t, command)
	default:
		s.run(t, command)
	}
}

// checkTarget wants a target of the Makefile that CI makes, or that has a reason.
func checkTarget(t *testing.T, document, target string) {
	t.Helper()
	if !strings.Contains(read(t, "Makefile"), "\n"+target+":") {
		t.Errorf("%s: make has no target %s", document, target)
	}
	if ci := regexp.MustCompile(`\bmake ` + target + `\b`); !ci.MatchString(read(t, ".ci/run")) && targets[target] == "" {
		t.Errorf("%s: make %s: .ci/run does not run it, and the list of targets in this file has no reason", document, target)
	}
}

// checkGo wants packages that exist, and tests in them that match.
func checkGo(t *testing.T, arguments string) {
	t.Helper()
	words := strings.Fields(strings.ReplaceAll(arguments, "'", ""))
	var dirs []string
	pattern := ""
	for i, word := range words {
		if strings.HasPrefix(word, "./") {
			dirs = append(dirs, strings.TrimPrefix(strings.TrimSuffix(word, "/..."), "./"))
		}
		if word == "-run" && i+1 < len(words) {
			pattern = words[i+1]
		}
	}
	if len(dirs) == 0 {
		t.Errorf("%q names no package", arguments)
	}
	matches := 0
	for _, dir := range dirs {
		if files, _ := filepath.Glob(filepath.Join(root, dir, "*.go")); len(files) == 0 {
			t.Errorf("%q: there is no package %s", arguments, dir)
		}
		for name, files := range builtTests(t) {
			for file := range files {
				if filepath.ToSlash(filepath.Dir(file)) == dir && regexp.MustCompile(pattern).MatchString(name) {
					matches++
				}
			}
		}
	}
	if pattern != "" && matches == 0 {
		t.Errorf("%q: no test matches", arguments)
	}
}

// TestMakeHelp runs make help, and wants every target that it lists to be described in words.
func TestMakeHelp(t *testing.T) {
	t.Parallel()
	make := exec.Command("make", "--no-print-directory", "help")
	make.Dir = root
	out, err := make.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "demo") {
		t.Fatalf("make help: %v\n%s", err, out)
	}
}

// TestSpans looks at the commands and settings in the prose: programs have the commands and flags, make has the targets, packages and files exist.
func TestSpans(t *testing.T) {
	t.Parallel()
	helps := map[string]string{}
	help := func(program, command string) string {
		if text, ok := helps[program+command]; ok {
			return text
		}
		out, err := exec.Command(testenv.Build(t, "cmd/"+program), command, "--help").Output()
		if err != nil {
			out = nil
		}
		helps[program+command] = string(out)
		return string(out)
	}
	every := ""
	for program, commands := range map[string][]string{
		"replicator": {"run", "setup", "teardown", "check", "rebuild", "verify", "status", "version"}, "decide": {"serve", "eval", "status", "version"},
	} {
		for _, command := range commands {
			every += help(program, command)
		}
	}
	ours := regexp.MustCompile(`^(replicator|decide) (--?[a-z-]+|[a-z]+)((?: .*)?)$`)
	option := regexp.MustCompile(`--[a-z-]+`)
	variable := regexp.MustCompile(`\b(?:REPLICATOR|DECIDE)_[A-Z_]*[A-Z]\b`)
	for _, d := range documents(t) {
		for _, name := range variable.FindAllString(d.prose, -1) {
			if !strings.Contains(every, "$"+strings.TrimSuffix(name, "_FILE")) {
				t.Errorf("%s: no program has the variable %s", d.path, name)
			}
		}
		for _, span := range d.spans() {
			switch m := ours.FindStringSubmatch(span); {
			case m != nil:
				text := help(m[1], m[2])
				if text == "" {
					t.Errorf("%s: %q is no command", d.path, span)
				}
				for _, o := range option.FindAllString(m[3], -1) {
					if !strings.Contains(text, o) {
						t.Errorf("%s: %q has no %s", d.path, span, o)
					}
				}
			case ofMake.MatchString(span):
				checkTarget(t, d.path, ofMake.FindStringSubmatch(span)[1])
			case ofGo.MatchString(span):
				checkGo(t, ofGo.FindStringSubmatch(span)[2])
			case strings.HasPrefix(span, ".ci/"):
				if _, err := os.Stat(filepath.Join(root, strings.Fields(span)[0])); err != nil {
					t.Errorf("%s: %v", d.path, err)
				}
			case strings.HasPrefix(span, "--"):
				if o := option.FindString(span); !regexp.MustCompile(regexp.QuoteMeta(o) + `\b`).MatchString(every) {
					t.Errorf("%s: no program has the setting %q", d.path, span)
				}
			}
		}
	}
}

// TestSettingsOnce wants the help to say each setting once, which is where settings are documented.
func TestSettingsOnce(t *testing.T) {
	t.Parallel()
	for program, command := range map[string]string{"replicator": "run", "decide": "serve"} {
		out, err := exec.Command(testenv.Build(t, "cmd/"+program), command, "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		times := map[string]int{}
		for _, name := range regexp.MustCompile(`\$(?:REPLICATOR|DECIDE)_[A-Z_]+`).FindAllString(string(out), -1) {
			times[name]++
		}
		for name, n := range times {
			if setting, isFile := strings.CutSuffix(name, "_FILE"); isFile && times[setting] > 0 { // another way to give the same one
				delete(times, name)
			}
			if n > 1 {
				t.Errorf("%s: %s stands there %d times", program, name, n)
			}
		}
		if flags := len(regexp.MustCompile(`(?m)^ {2,6}(?:-h, )?--[a-z]`).FindAllString(string(out), -1)); flags != len(times)+1 { // --help has no variable
			t.Errorf("%s: %d flags and %d variables", program, flags, len(times))
		}
	}
}

// TestStatements runs the SQL in the prose, and that of commands in elsewhere, against PostHog's tables.
func TestStatements(t *testing.T) {
	t.Parallel()
	src := emptySource(t)
	ran := 0
	statements := []string{"UPDATE posthog_featureflag SET active = NOT active WHERE key = 'new-checkout'"}
	for _, d := range documents(t) {
		for _, span := range d.spans() {
			if strings.HasPrefix(span, "SELECT ") && strings.Contains(span, " FROM ") {
				statements = append(statements, span)
			}
		}
	}
	for _, statement := range statements {
		src.db.Exec(t, statement)
		ran++
	}
	if ran < 3 {
		t.Errorf("only %d statements: this test no longer finds them", ran)
	}
}

// TestServerSettings gives every setting of the blocks for postgresql.conf to a real server.
func TestServerSettings(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t, testenv.PGOptions{})
	db := pg.Database(t)
	for _, line := range strings.Split(strings.TrimSpace(comment.ReplaceAllString(one(t, "docs/operations.md", "ini"), "")), "\n") {
		name, value, ok := strings.Cut(line, " = ")
		if !ok {
			t.Fatalf("not a setting: %q", line)
		}
		db.Exec(t, fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", strings.TrimSpace(name), strings.TrimSpace(value)))
	}
}

// run wants the command to succeed.
func (s *stage) run(t *testing.T, command string) {
	t.Helper()
	s.prepare(t, command)
	bash := exec.Command("bash", "-euo", "pipefail", "-c", s.definitions+s.real(t, command))
	bash.Dir, bash.Env = s.dir, s.environment(t)
	var out bytes.Buffer
	bash.Stdout, bash.Stderr = &out, &out
	if err := bash.Run(); err != nil {
		t.Fatalf("%s\n%v\n%s", command, err, out.String())
	}
	checkPrinted(t, command, out.String())
	t.Logf("ran: %s", command)
}
