package decide

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Every test that docs/compatibility.md names exists.
func TestCompatibilityNamesTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "compatibility.md"))
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"*_test.go", filepath.Join("eval", "*_test.go"), filepath.Join("..", "cmd", "decide", "*_test.go")} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	functions := map[string]bool{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(source, -1) {
			functions[string(match[1])] = true
		}
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(text, -1)
	for _, match := range named {
		if name := string(match[1]); !functions[name] {
			t.Errorf("there is no %s", name)
		}
	}
	t.Logf("%d names", len(named))
}
