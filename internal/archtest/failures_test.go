package archtest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFailureTable holds docs/failures.md against the code: every known failure has exactly one row, and the row names tests that exist, or gives a reason
// of at least ten words why there is none.
func TestFailureTable(t *testing.T) {
	text, err := os.ReadFile("../../docs/failures.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testFunctions(t)
	row := regexp.MustCompile(`(?m)^\| ([FS]\d+) \|([^|]*)\|(.*)\|$`)
	name := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)\\w+)`")
	seen := map[string]bool{}
	for _, match := range row.FindAllStringSubmatch(string(text), -1) {
		id, shown := match[1], match[3]
		if seen[id] {
			t.Errorf("%s has two rows", id)
		}
		seen[id] = true
		named := name.FindAllStringSubmatch(shown, -1)
		for _, n := range named {
			if !tests[n[1]] {
				t.Errorf("%s names %s, which does not exist", id, n[1])
			}
		}
		if words := len(strings.Fields(shown)); len(named) == 0 && words < 10 {
			t.Errorf("%s names no test and gives a reason of %d words, want at least ten", id, words)
		}
	}
	for prefix, count := range map[string]int{"F": 80, "S": 60} {
		for i := 1; i <= count; i++ {
			if id := fmt.Sprint(prefix, i); !seen[id] {
				t.Errorf("%s has no row", id)
			}
		}
	}
}

// testFunctions are the names of all tests, fuzz targets and benchmarks of the module.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, match := range declaration.FindAllStringSubmatch(string(source), -1) {
			names[match[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
