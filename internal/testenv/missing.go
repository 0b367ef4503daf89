package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Missing ends a test that wants what this machine does not have, with a message that says what and where to get it: as a skip, or as a failure if
// TEST_REQUIRE_SERVERS is set, as it is in CI. No test decides that for itself: internal/archtest.
func Missing(t testing.TB, message string) {
	t.Helper()
	if os.Getenv("TEST_REQUIRE_SERVERS") != "" {
		t.Fatal(message)
	}
	t.Skip(message)
}

// Tool returns the path of a program that is not ours: that of the first name in PATH. Without one the test ends as Missing says.
func Tool(t testing.TB, debianPackage string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Missing(t, fmt.Sprintf("no %s in PATH: Debian's package %s has it", strings.Join(names, ", "), debianPackage))
	return ""
}
