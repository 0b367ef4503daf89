package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// skips are the functions that may skip by design, by directory and name, and why: there is nothing that CI could provide. What it could is wanted through
// testenv.Missing, which is a failure there.
var skips = map[string]string{
	"decide TestHandlerAllocations":                   "allocations are counted without the race detector",
	"decide/store TestLargeInstallation":              "a minute of measuring, for those who set EVERFLAG_LARGE",
	"internal/redisconn TestUnixSocket":               "a server in a container has no socket that its host sees",
	"internal/testenv TestNeeds":                      "the child of another test",
	"internal/testenv TestLeaveEverything":            "the child of another test",
	"internal/testenv TestReaperCleansUpAfterSIGKILL": "given servers and those in containers are not processes of the kit",
	"internal/testenv Missing":                        "decides for all others",
	"replication TestWhatReconciles":                  "features that the Postgres under test is too old for",
}

// TestSkips wants every test to run in CI: a skip stands under testing.Short, which CI's tests run without, or in a function of the list, and nobody but the
// test kit looks for programs or reads what CI sets.
func TestSkips(t *testing.T) {
	unused := map[string]bool{}
	for function := range skips {
		unused[function] = true
	}
	found := 0
	for path, file := range testSources(t) {
		directory := filepath.ToSlash(filepath.Dir(path))
		ast.PreorderStack(file, nil, func(n ast.Node, stack []ast.Node) bool {
			call, isCall := n.(*ast.CallExpr)
			if !isCall {
				return true
			}
			switch name := called(call); {
			case strings.HasSuffix(name, ".Skip"), strings.HasSuffix(name, ".Skipf"), strings.HasSuffix(name, ".SkipNow"):
				found++
				function := directory + " " + enclosing(stack)
				if delete(unused, function); skips[function] == "" && !short(stack) {
					t.Errorf("%s: %s skips: use testenv.Missing, testenv.Tool or testing.Short, or say why not in the list of this test", path, enclosing(stack))
				}
			case name == "exec.LookPath" && directory != "internal/testenv":
				t.Errorf("%s: %s looks for a program: testenv.Tool does that", path, enclosing(stack))
			case name == "os.Getenv" && argument(call) == `"TEST_REQUIRE_SERVERS"` && enclosing(stack) != "Missing":
				t.Errorf("%s: %s reads TEST_REQUIRE_SERVERS: testenv.Missing does that", path, enclosing(stack))
			}
			return true
		})
	}
	for function := range unused {
		t.Errorf("the list has %s, which does not skip", function)
	}
	if found < 10 {
		t.Errorf("%d skips: this test no longer finds them", found)
	}
}

// testSources are the files of the module that import testing, by their paths from its root.
func testSources(t *testing.T) map[string]*ast.File {
	t.Helper()
	found := map[string]*ast.File{}
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git") {
			return filepath.SkipDir
		}
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing"` }) {
			path, err = filepath.Rel("../..", path)
			found[path] = file
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// called is the name of a called function with what stands before its dot, if that is a name, too.
func called(call *ast.CallExpr) string {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if of, ok := selector.X.(*ast.Ident); ok {
		return of.Name + "." + selector.Sel.Name
	}
	return "." + selector.Sel.Name
}

// argument is the only argument as it is written, if it is a literal.
func argument(call *ast.CallExpr) string {
	if literal, ok := call.Args[0].(*ast.BasicLit); ok {
		return literal.Value
	}
	return ""
}

// enclosing is the name of the function.
func enclosing(stack []ast.Node) string {
	for _, n := range stack {
		if function, ok := n.(*ast.FuncDecl); ok {
			return function.Name.Name
		}
	}
	return ""
}

// short says whether the innermost condition is testing.Short().
func short(stack []ast.Node) bool {
	for i, n := range slices.Backward(stack) {
		if condition, ok := n.(*ast.IfStmt); ok {
			call, isCall := condition.Cond.(*ast.CallExpr)
			return isCall && called(call) == "testing.Short" && stack[i+1] == condition.Body
		}
	}
	return false
}
