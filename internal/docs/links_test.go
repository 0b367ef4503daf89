package docs_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
)

// TestLinks follows every relative link to a file, and every anchor to a heading.
func TestLinks(t *testing.T) {
	t.Parallel()
	all := documents(t)
	anchors := map[string]map[string]bool{}
	for _, d := range all {
		anchors[d.path] = map[string]bool{}
		for _, m := range heading.FindAllStringSubmatch(d.prose, -1) {
			anchors[d.path][anchor(m[1])] = true
		}
	}
	for _, d := range all {
		for _, m := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(d.prose, ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			file, fragment, _ := strings.Cut(m[1], "#")
			target := d.path
			if file != "" {
				target = path.Join(path.Dir(d.path), file)
			}
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(target))); err != nil {
				t.Errorf("%s links to %s: %v", d.path, m[1], err)
			} else if fragment != "" && strings.HasSuffix(target, ".md") && !anchors[target][fragment] {
				t.Errorf("%s links to %s: there is no such heading", d.path, m[1])
			}
		}
	}
}

// TestDecisionsAreListed wants every decision in the list of docs/adr, under its title.
func TestDecisionsAreListed(t *testing.T) {
	t.Parallel()
	list, decisions := read(t, "docs/adr/README.md"), 0
	for _, d := range documents(t) {
		dir, name := path.Split(d.path)
		if dir != "docs/adr/" || name == "README.md" {
			continue
		}
		decisions++
		number, title, _ := strings.Cut(heading.FindStringSubmatch(d.prose)[1], ". ")
		if line := number + ". [" + title + "](" + name + ")\n"; !strings.Contains(list, line) {
			t.Errorf("docs/adr/README.md lacks %s", line)
		}
	}
	if decisions < 8 {
		t.Errorf("only %d decisions: this test no longer finds them", decisions)
	}
}

// anchor is how code hosts name a heading in links.
func anchor(title string) string {
	var name strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(title)) {
		switch {
		case r == ' ':
			name.WriteByte('-')
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			name.WriteRune(r)
		}
	}
	return name.String()
}

func TestAnchor(t *testing.T) {
	t.Parallel()
	for title, want := range map[string]string{"Runbook by symptom": "runbook-by-symptom", "`decide`, the server": "decide-the-server", "A – b": "a--b"} {
		if got := anchor(title); got != want {
			t.Errorf("%q is %q, want %q", title, got, want)
		}
	}
}

var (
	testName   = regexp.MustCompile(`^(?:Test|Fuzz|Benchmark)[A-Z]\w*$`)
	linkedTest = regexp.MustCompile("\\[`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`\\]\\(([^)\\s]+)\\)")
)

// TestNamedTestsExist holds every test that a document names against the code, and a name that is a link against the file that it leads to. The changelog
// tells of tests as they were.
func TestNamedTestsExist(t *testing.T) {
	t.Parallel()
	declared := builtTests(t)
	for _, d := range documents(t) {
		if d.path == "CHANGELOG.md" {
			continue
		}
		for _, span := range d.spans() {
			if testName.MatchString(span) && len(declared[span]) == 0 {
				t.Errorf("%s names %s, which does not exist", d.path, span)
			}
		}
		for _, m := range linkedTest.FindAllStringSubmatch(d.prose, -1) {
			if target := path.Join(path.Dir(d.path), m[2]); declared[m[1]][target] == nil {
				t.Errorf("%s links %s to %s, where it is not", d.path, m[1], m[2])
			}
		}
	}
	row := regexp.MustCompile(`(?m)^\| G\d+ \|.*$`)
	guarantees := row.FindAllString(read(t, "README.md"), -1)
	if len(guarantees) != 10 {
		t.Errorf("README.md has %d guarantees, want 10", len(guarantees))
	}
	for _, g := range guarantees {
		if names, linked := strings.Count(g, "`Test"), len(linkedTest.FindAllString(g, -1)); names == 0 || names != linked {
			t.Errorf("%.60s…: %d tests are named and %d are links", g, names, linked)
		}
	}
}
