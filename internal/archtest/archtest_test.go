// Package archtest guarantees the direction of imports: who may know whom. A rule that is broken fails here with the path that breaks it.
package archtest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/everflag/everflag"

// rule says what a package must not reach, also not through others; only packages that are part of a build count, not those of tests.
type rule struct {
	from, never string
	because     string
}

var rules = []rule{
	{"decide", "replication", "decide answers with Postgres and the replicator gone"},
	{"decide", "cachewriter", "decide only reads the cache"},
	{"decide", "github.com/jackc", "decide never opens a connection to Postgres"},
	{"cmd/decide", "replication", "decide answers with Postgres and the replicator gone"},
	{"cmd/decide", "cachewriter", "decide only reads the cache"},
	{"cmd/decide", "github.com/jackc", "decide never opens a connection to Postgres"},
	{"replication", "cachewriter", "they meet only in cmd/replicator, through replication.Sink"},
	{"replication", "internal/flagcache", "the cache's layout is the writer's business"},
	{"replication", "github.com/redis", "replication knows only its Sink"},
	{"cachewriter", "replication", "they meet only in cmd/replicator, through replication.Sink"},
	{"cachewriter", "github.com/jackc", "the writer gets its rows handed"},
	{"decide/eval", "net", "evaluation does no I/O"},
	{"decide/eval", "github.com/redis", "evaluation does no I/O"},
	{"internal/change", module, "the vocabulary depends on nothing of ours"},
	{"internal/flagcache", module, "the schema depends on nothing of ours"},
}

// standardOnly are packages that import nothing but the standard library.
var standardOnly = []string{"internal/change", "internal/flagcache", "internal/backoff"}

// notByItself are packages of the standard library that evaluation must not import: package fmt reaches os, so only direct imports say something.
var notByItself = []string{"os", "os/exec", "io/fs", "syscall", "net", "net/http"}

// never in a program: libraries for tests.
var testLibraries = []string{
	"testing", "github.com/testcontainers", "go.uber.org/goleak", "pgregory.net/rapid", "github.com/google/go-cmp", "github.com/posthog",
	"github.com/chromedp", module + "/internal/testenv", module + "/internal/browsertest", module + "/internal/oracle",
}

// present are the packages that the rules are about: a renamed one must not make its rules vanish.
var present = []string{
	"cmd/replicator", "cmd/decide", "replication", "cachewriter", "decide", "decide/eval", "decide/store", "internal/change", "internal/flagcache",
	"internal/admin", "internal/logging", "internal/backoff", "internal/testenv",
}

func TestImports(t *testing.T) { // S22
	all := strings.Fields(list(t, "{{.ImportPath}}", "./..."))
	for _, p := range present {
		if !slices.Contains(all, module+"/"+p) {
			t.Errorf("package %s does not exist", p)
		}
	}
	for _, r := range rules {
		for _, dependency := range reached(t, r.from) {
			if under(dependency, r.never) || under(dependency, module+"/"+r.never) {
				t.Errorf("%s reaches %s, but %s: see \"go mod why\" or \"go list -deps\"", r.from, dependency, r.because)
			}
		}
	}
	for _, imported := range strings.Fields(list(t, "{{join .Imports \"\\n\"}}", "./decide/eval")) {
		if slices.Contains(notByItself, imported) {
			t.Errorf("decide/eval imports %s, but evaluation does no I/O", imported)
		}
	}
	for _, p := range standardOnly {
		for _, dependency := range reached(t, p) {
			if first, _, _ := strings.Cut(dependency, "/"); strings.Contains(first, ".") {
				t.Errorf("%s reaches %s, but it imports only the standard library", p, dependency)
			}
		}
	}
	for _, program := range []string{"cmd/replicator", "cmd/decide"} {
		for _, dependency := range reached(t, program) {
			for _, library := range testLibraries {
				if under(dependency, library) {
					t.Errorf("%s links %s, which is for tests", program, dependency)
				}
			}
		}
	}
}

// TestRulesBite shows that a rule finds an edge that exists: replication does reach jackc/pgx.
func TestRulesBite(t *testing.T) {
	if !slices.ContainsFunc(reached(t, "replication"), func(d string) bool { return under(d, "github.com/jackc") }) {
		t.Error("replication does not seem to reach github.com/jackc: this test no longer sees the imports")
	}
}

func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// reached lists all that the package's build depends on, itself not included.
func reached(t *testing.T, pkg string) []string {
	t.Helper()
	dependencies := strings.Fields(list(t, "{{.ImportPath}}", "-deps", "./"+pkg))
	return slices.DeleteFunc(dependencies, func(d string) bool { return d == module+"/"+pkg })
}

func list(t *testing.T, format string, args ...string) string {
	t.Helper()
	command := exec.Command("go", append([]string{"list", "-f", format}, args...)...)
	command.Dir = "../.."
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	return string(out)
}
