package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/admin"
)

// showStatus prints what the decide at --admin-url serves, and fails if it is not ready, so that it can serve as a health check.
func (s *settings) showStatus(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("no answer within 5 s"))
	defer cancel()
	var status store.Status
	if err := admin.Call(ctx, s.AdminURL, http.MethodGet, "/status", &status); err != nil {
		return err
	}
	var err error
	if s.Status.JSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(status)
	} else {
		err = printStatus(stdout, status, time.Now())
	}
	return cmp.Or(err, admin.Ready(ctx, s.AdminURL))
}

func printStatus(stdout io.Writer, status store.Status, now time.Time) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	ago := func(t time.Time) string { return now.Sub(t).Round(time.Second).String() }
	line("source", "%s, loaded %s ago", status.Source, ago(status.Since))
	line("definitions", "%d teams, %d compiled; records %d MiB, compiled %d MiB", status.Teams, status.Programs, status.RecordBytes>>20, status.ProgramBytes>>20)
	line("position", "%s, stale for %.1f s", cmp.Or(status.Position, "none"), status.AgeSeconds)
	tokens := "503: the cache is not known to be complete and fresh"
	if status.Certain {
		tokens = "401"
	}
	line("unknown tokens", "%s", tokens)
	if status.LastChange != nil {
		line("last change", "%s ago", ago(*status.LastChange))
	}
	if status.Reconcile != "" {
		line("reconcile", "%s", status.Reconcile)
	}
	if status.Error != "" && status.ErrorSince != nil {
		line("redis", "failing for %s: %s", ago(*status.ErrorSince), status.Error)
	}
	if status.SnapshotAt != nil {
		line("snapshot file", "%s, written %s ago", status.SnapshotFile, ago(*status.SnapshotAt))
	}
	if status.FileError != "" {
		line("snapshot file", "%s", status.FileError)
	}
	return w.Flush()
}
