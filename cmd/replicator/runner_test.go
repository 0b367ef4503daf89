package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/everflag/everflag/internal/admin"
	"github.com/everflag/everflag/internal/testenv"
	"github.com/everflag/everflag/replication"
)

// runner is a running replicator process.
type runner struct {
	*testenv.Program
	url string // of its private listener
}

func (w *world) run(t *testing.T, more ...string) *runner {
	t.Helper()
	addr := "127.0.0.1:" + testenv.FreePort(t)
	env := w.env(t, append(more, "REPLICATOR_ADMIN_ADDR="+addr)...)
	return &runner{Program: testenv.Run(t, testenv.Build(t, "cmd/replicator"), env), url: "http://" + addr}
}

func (r *runner) status(ctx context.Context) (s replication.Status, err error) {
	err = admin.Call(ctx, r.url, http.MethodGet, "/status", &s)
	return s, err
}

// plays reports whether the process has the role.
func (r *runner) plays(ctx context.Context, want replication.Role) error {
	s, err := r.status(ctx)
	if err == nil && s.Role != want {
		err = fmt.Errorf("the role is %s, want %s: %s %s", s.Role, want, s.Detail, s.LastError)
	}
	return err
}

func (r *runner) waitRole(t *testing.T, want replication.Role) {
	t.Helper()
	testenv.Eventually(t, settle, func() error { return r.plays(t.Context(), want) })
}

// rebuild returns when the whole cache has been compared with the tables.
func (r *runner) rebuild(ctx context.Context) (report replication.ReconcileReport, err error) {
	err = admin.Call(ctx, r.url, http.MethodPost, "/rebuild", &report)
	return report, err
}

// memory is a figure of /proc/<pid>/status in MB: VmRSS is the resident set, VmHWM the largest it has been since the start or forgetPeak.
func (r *runner) memory(t *testing.T, figure string) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, figure+":"); found {
			kilobytes, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes / 1024
		}
	}
	t.Fatalf("no %s in %s", figure, text)
	return 0
}

// forgetPeak makes VmHWM start anew.
func (r *runner) forgetPeak(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", r.PID()), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// large reports whether the tests of large amounts run in full.
func large() bool { return os.Getenv("EVERFLAG_LARGE") != "" }
