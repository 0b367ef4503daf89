package testenv

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/everflag/everflag/internal/testenv/server"
)

// Main runs the tests of a package, stops the shared servers and then looks for leaked goroutines. It returns the exit code:
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
//
// A package without it loses only the leak check: the servers go when the process ends.
func Main(m *testing.M) int {
	before := goleak.IgnoreCurrent() // some libraries listen for something from their init on
	code := m.Run()
	if err := server.Cleanup(); err != nil {
		fmt.Fprintf(os.Stderr, "testenv: cleaning up: %v\n", err)
		code = max(code, 1)
	}
	if code != 0 {
		return code // a failed test may well leave goroutines; its own message matters more
	}
	// Testcontainers keeps a connection to its own reaper until the process ends.
	if err := goleak.Find(before, goleak.IgnoreAnyFunction("github.com/testcontainers/testcontainers-go.(*Reaper).connect.func1")); err != nil {
		fmt.Fprintf(os.Stderr, "testenv: %v\n", err)
		return 1
	}
	return code
}
