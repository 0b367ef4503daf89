package testenv

import (
	"strconv"
	"testing"

	"github.com/everflag/everflag/internal/testenv/server"
)

// FreePort returns a port of 127.0.0.1 that nothing listens on and that no outgoing connection will be given.
func FreePort(t testing.TB) string {
	t.Helper()
	port, err := server.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}
