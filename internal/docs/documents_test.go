// Package docs_test guarantees that the documents are true: links and anchors lead somewhere, named tests, settings and targets exist, every command is run
// or has a reason why not, and the configurations of proxies do with real proxies what the text says.
package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// root is the directory of the module.
const root = "../.."

// document is a Markdown file.
type document struct {
	path   string // from root, with slashes
	prose  string // the text without its blocks
	blocks []block
}

// block is a fenced block.
type block struct {
	language string
	line     int // of its opening fence
	text     string
}

// documents are all Markdown files of the repository.
func documents(t *testing.T) []document {
	t.Helper()
	var found []document
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && path != root && (name == "node_modules" || name == "testdata" || name == "bin" || strings.HasPrefix(name, ".")) {
			return filepath.SkipDir
		}
		if entry.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		relative, err := filepath.Rel(root, path)
		if err == nil {
			found = append(found, parse(filepath.ToSlash(relative), read(t, filepath.ToSlash(relative))))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 15 {
		t.Fatalf("only %d documents: this test no longer finds them", len(found))
	}
	return found
}

// read returns a file, named from the root of the module.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// parse separates blocks from prose.
func parse(path, text string) document {
	d := document{path: path}
	var prose strings.Builder
	var open *block
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &block{language: fence, line: i + 1}
		case isFence:
			d.blocks = append(d.blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		default:
			prose.WriteString(line)
		}
		prose.WriteString("\n")
	}
	d.prose = prose.String()
	return d
}

// one returns the only block of a language in a document.
func one(t *testing.T, path, language string) string {
	t.Helper()
	var found []string
	for _, b := range parse(path, read(t, path)).blocks {
		if b.language == language {
			found = append(found, b.text)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d blocks of %q, want one", path, len(found), language)
	}
	return found[0]
}

var codeSpan = regexp.MustCompile("`([^`\n]+)`")

// spans are the pieces of code in the prose.
func (d *document) spans() []string {
	var found []string
	for _, m := range codeSpan.FindAllStringSubmatch(d.prose, -1) {
		found = append(found, m[1])
	}
	return found
}

func TestParse(t *testing.T) {
	t.Parallel()
	d := parse("x.md", "# A\n`one` and `two`\n```sh\nls\n```\nend\n")
	if len(d.blocks) != 1 || d.blocks[0] != (block{"sh", 3, "ls\n"}) || strings.Contains(d.prose, "ls") || strings.Join(d.spans(), "|") != "one|two" {
		t.Errorf("parsed %+v", d)
	}
}
