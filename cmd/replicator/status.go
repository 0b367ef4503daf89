package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/everflag/everflag/internal/admin"
	"github.com/everflag/everflag/replication"
)

// showStatus prints what the replicator at --admin-url does, and fails if it is not ready, so that it can serve as a health check.
func (s *settings) showStatus(ctx context.Context, stdout io.Writer) error {
	status, err := s.fetchStatus(ctx)
	if err != nil {
		return err
	}
	if s.Status.JSON {
		err = printJSON(stdout, status)
	} else {
		err = printStatus(stdout, status, time.Now())
	}
	return cmp.Or(err, admin.Ready(ctx, s.AdminURL))
}

func printStatus(stdout io.Writer, status replication.Status, now time.Time) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	readiness := "ready"
	if err := ready(status); err != nil {
		readiness = "not ready: " + err.Error()
	}
	line("state", "%s since %s, %s", status.Role, ago(status.Since, now), readiness)
	if status.Detail != "" {
		line("", "%s", status.Detail)
	}
	line("source", "database %s, system %s, timeline %d", cmp.Or(status.Database, "?"), cmp.Or(status.SystemID, "?"), status.Timeline)
	line("slot", "%s, publication %s, log retained %s", status.Slot, status.Publication, size(status.RetainedWAL))
	if status.Role == replication.RoleLeader {
		line("position", "cache %s, acknowledged %s, source %s", status.Checkpoint, status.Acknowledged, status.WALEnd)
		line("lag", "%s", lag(status))
	}
	if status.Released {
		line("released", "the log is given back unread, because Redis is away: its return is a reconcile")
	}
	if status.CacheError != "" {
		line("redis", "%s", status.CacheError)
	}
	if status.LastError != "" {
		line("last error", "%s ago: %s", ago(status.ErrorSince, now), status.LastError)
	}
	if r := status.Reconcile; r != nil {
		line("reconcile", "%s since %s: %s", r.Stage, ago(r.Since, now), r.Reason)
		line("", "%s", bar(r))
		if !r.ProvisionalSince.IsZero() {
			line("", "provisional since %s", ago(r.ProvisionalSince, now))
		}
	}
	if r := status.Reconciled; r != nil {
		line("last reconcile", "%s ago in %s: %s; %d of %d teams written, %d removed",
			ago(r.Finished, now), r.Took.Round(time.Millisecond), r.Reason, r.TeamsWritten, r.Teams, r.TeamsGone)
	}
	if v := status.Verify; v != nil {
		line("last verify", "%s ago: %d records differ of %d rows%s", ago(v.Finished, now), v.Drift, v.Rows, strings.TrimRight(" "+v.Error, " "))
	}
	return w.Flush()
}

func lag(status replication.Status) string {
	if status.LagSeconds < 0 {
		return size(status.LagBytes) + ", time not known"
	}
	return fmt.Sprintf("%s, %.1f s", size(status.LagBytes), status.LagSeconds)
}

func ago(then, now time.Time) string {
	return now.Sub(then).Round(time.Second).String()
}

func size(bytes int64) string {
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if bytes < 10*1024 {
			return fmt.Sprintf("%d %s", bytes, unit)
		}
		bytes /= 1024
	}
	return fmt.Sprintf("%d GiB", bytes)
}
