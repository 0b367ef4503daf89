package store

import (
	"os"
	"strings"
	"testing"
)

// readOnlyCommands are those that doc.go tells the operator to allow.
var readOnlyCommands = []string{"hgetall", "hmget", "hscan", "xread", "time", "multi", "exec", "ping", "hello", "select", "client|setname"}

func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	if want := "-@all +" + strings.Join(readOnlyCommands, " +"); !strings.Contains(string(text), want) {
		t.Errorf("doc.go does not say %q", want)
	}
}
