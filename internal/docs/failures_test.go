package docs_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// accidents is how many accidents each list has.
var accidents = map[string]int{"F": 80, "S": 60}

// TestFailureTable holds docs/failures.md against the code: every accident of the lists has exactly one row. The row names tests that are part of a plain
// build and name the accident in turn, by its number in their comment or their code, or gives a reason of at least ten words why there is none. A name that
// several packages have is a link to the one that is meant. TestSkips makes sure that none of them is skipped in CI.
func TestFailureTable(t *testing.T) {
	t.Parallel()
	declared := builtTests(t)
	for _, problem := range tableProblems(read(t, "docs/failures.md"), declared) {
		t.Error(problem)
	}
	for _, tests := range declared {
		for file, named := range tests {
			for id := range named {
				if n, _ := strconv.Atoi(id[1:]); n < 1 || n > accidents[id[:1]] {
					t.Errorf("%s: a test names %s, which is on no list", file, id)
				}
			}
		}
	}
}

// testsByName are the tests of the module by name and file, each with the accidents that it names.
type testsByName map[string]map[string]map[string]bool

var (
	accidentRow   = regexp.MustCompile(`(?m)^\| ([A-Z]\d+) \|([^|]*)\|(.*)\|$`)
	accidentTest  = regexp.MustCompile("\\[?`((?:Test|Fuzz)\\w+)`(?:\\]\\(([^)\\s]+)\\))?")
	accidentID    = regexp.MustCompile(`\b([FS])(\d{1,2})\b(?:–([FS])(\d{1,2})\b)?`)
	reasonAtLeast = 10
)

// tableProblems are what is wrong with the table.
func tableProblems(table string, declared testsByName) (problems []string) {
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	seen := map[string]bool{}
	for _, row := range accidentRow.FindAllStringSubmatch(table, -1) {
		id, shown := row[1], row[3]
		if seen[id] {
			complain("%s has two rows", id)
		}
		seen[id] = true
		named := accidentTest.FindAllStringSubmatch(shown, -1)
		for _, n := range named {
			files := declared[n[1]]
			file := path.Join("docs", n[2])
			if n[2] == "" {
				for only := range files {
					file = only
				}
			}
			switch {
			case len(files) == 0:
				complain("%s names %s, which does not exist", id, n[1])
			case n[2] == "" && len(files) > 1:
				complain("%s names %s, which several packages have: link the one that is meant", id, n[1])
			case files[file] == nil:
				complain("%s links %s to %s, where it is not", id, n[1], file)
			case !files[file][id]:
				complain("%s names %s, which does not name it in turn", id, n[1])
			}
		}
		if words := len(strings.Fields(shown)); len(named) == 0 && words < reasonAtLeast {
			complain("%s names no test and gives a reason of %d words, want %d", id, words, reasonAtLeast)
		}
	}
	for list, count := range accidents {
		for n := 1; n <= count; n++ {
			if id := fmt.Sprint(list, n); !seen[id] {
				complain("%s has no row", id)
			}
			delete(seen, fmt.Sprint(list, n))
		}
	}
	for id := range seen {
		complain("%s is on no list", id)
	}
	return problems
}

// builtTests are the tests, fuzz targets and benchmarks of a build without tags.
func builtTests(t *testing.T) testsByName {
	t.Helper()
	found := testsByName{}
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "testdata" || entry.Name() == ".git") {
			return filepath.SkipDir
		}
		if err != nil || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		if built, err := build.Default.MatchFile(filepath.Split(file)); err != nil || !built {
			return err
		}
		relative, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		source, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return testsOf(source, func(name string, text []byte) {
			if found[name] == nil {
				found[name] = map[string]map[string]bool{}
			}
			found[name][filepath.ToSlash(relative)] = accidentsIn(string(text))
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// testsOf calls found with each test of a file: its comment, its code, and what stands behind it on its line.
func testsOf(source []byte, found func(name string, text []byte)) error {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "", source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, declaration := range file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || function.Recv != nil || !testName.MatchString(function.Name.Name) {
			continue
		}
		from, to := function.Pos(), files.Position(function.End()).Offset
		if function.Doc != nil {
			from = function.Doc.Pos()
		}
		text := source[files.Position(from).Offset:]
		end := to - files.Position(from).Offset
		if line := bytes.IndexByte(text[end:], '\n'); line >= 0 {
			end += line
		}
		found(function.Name.Name, text[:end])
	}
	return nil
}

// accidentsIn are the accidents that a text names, one by one or as "F5–F8".
func accidentsIn(text string) map[string]bool {
	named := map[string]bool{}
	for _, m := range accidentID.FindAllStringSubmatch(text, -1) {
		first, _ := strconv.Atoi(m[2]) // digits
		last := first
		if m[3] == m[1] {
			last, _ = strconv.Atoi(m[4])
		}
		for n := first; n <= last; n++ {
			named[fmt.Sprint(m[1], n)] = true
		}
	}
	return named
}

// The test of the table notices what may be wrong with it.
func TestTableProblems(t *testing.T) {
	t.Parallel()
	declared := testsByName{}
	err := testsOf([]byte(`package x
// F1, F5–F7
func TestOne(t *testing.T) {}
func TestTwo(t *testing.T) { _ = 1 } // F2
// func TestComment(t *testing.T) {}
/*
func TestBlock(t *testing.T) {}
*/
`), func(name string, text []byte) {
		declared[name] = map[string]map[string]bool{"x/x_test.go": accidentsIn(string(text))}
	})
	if err != nil || len(declared) != 2 {
		t.Fatalf("found %v, %v", declared, err)
	}
	declared["TestTwo"]["y/y_test.go"] = map[string]bool{}
	whole := "| F1 | x | `TestOne` |\n"
	for list, count := range accidents {
		for n := 1; n <= count; n++ {
			if id := fmt.Sprint(list, n); id != "F1" {
				whole += "| " + id + " | x | of one two three four five six seven eight nine ten |\n"
			}
		}
	}
	reason := "| F2 | x | of one two three four five six seven eight nine ten |\n"
	for row, want := range map[string]string{
		reason:                                       "",
		"":                                           "F2 has no row",
		reason + reason:                              "F2 has two rows",
		reason + "| X1 | x | `TestOne` |\n":          "X1 names TestOne, which does not name it in turn; X1 is on no list",
		"| F2 | x | it cannot happen |\n":            "F2 names no test and gives a reason of 3 words, want 10",
		"| F2 | x | `TestNone` |\n":                  "F2 names TestNone, which does not exist",
		"| F2 | x | `TestBlock` |\n":                 "F2 names TestBlock, which does not exist",
		"| F2 | x | `TestOne` |\n":                   "F2 names TestOne, which does not name it in turn",
		"| F2 | x | `TestTwo` |\n":                   "F2 names TestTwo, which several packages have: link the one that is meant",
		"| F2 | x | [`TestTwo`](../z.go) |\n":        "F2 links TestTwo to z.go, where it is not",
		"| F2 | x | [`TestTwo`](../y/y_test.go) |\n": "F2 names TestTwo, which does not name it in turn",
		"| F2 | x | [`TestTwo`](../x/x_test.go) |\n": "",
	} {
		if got := strings.Join(tableProblems(strings.Replace(whole, reason, row, 1), declared), "; "); got != want {
			t.Errorf("%q: %q, want %q", row, got, want)
		}
	}
	if got := accidentsIn("F5–F7"); len(got) != 3 || !got["F6"] {
		t.Errorf("a range is %v", got)
	}
}
