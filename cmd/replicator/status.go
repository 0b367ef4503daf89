package main

import (
	"cmp"
	"context"
	"io"
	"strings"
	"time"

	"github.com/everflag/everflag/internal/admin"
	"github.com/everflag/everflag/internal/admin/pages"
	"github.com/everflag/everflag/internal/command"
	"github.com/everflag/everflag/replication"
)

// showStatus prints what the replicator at --admin-url does, and fails if it is not ready, so that it can serve as a health check.
func (s *settings) showStatus(ctx context.Context, stdout io.Writer) error {
	status, err := s.fetchStatus(ctx)
	if err != nil {
		return err
	}
	if s.Status.JSON {
		err = command.PrintJSON(stdout, status)
	} else {
		err = printStatus(stdout, status, time.Now())
	}
	return cmp.Or(err, admin.Ready(ctx, s.AdminURL))
}

func printStatus(stdout io.Writer, status replication.Status, now time.Time) error {
	sheet := command.NewSheet(stdout)
	line := func(name, format string, args ...any) { sheet.Line(command.Plain, name, format, args...) }
	since := func(t time.Time) string { return pages.Took(now.Sub(t)) }
	problem := ""
	if err := ready(status); err != nil {
		problem = err.Error()
		sheet.Line(command.Bad, "state", "%s for %s, not ready: %s", status.Role, since(status.Since), problem)
	} else {
		sheet.Line(command.Good, "state", "%s for %s, ready", status.Role, since(status.Since))
	}
	if status.Detail != "" {
		line("", "%s", status.Detail)
	}
	if status.SystemID != "" {
		line("source", "database %s, system %s, timeline %d", status.Database, status.SystemID, status.Timeline)
	}
	if status.Role == replication.RoleLeader {
		line("slot", "%s, publication %s, log retained %s", status.Slot, status.Publication, pages.Size(status.RetainedWAL))
		line("position", "cache %s, acknowledged %s, source %s", status.Checkpoint, status.Acknowledged, status.WALEnd)
		line("lag", "%s, %s of log", indexView{Status: status}.Lag(), pages.Size(status.LagBytes))
	} else {
		line("slot", "%s, publication %s", status.Slot, status.Publication)
	}
	if status.Released {
		sheet.Line(command.Warn, "released", "the log is given back unread, because Redis is away: its return is a reconcile")
	}
	if !strings.Contains(problem, status.CacheError) { // once is enough
		sheet.Line(command.Bad, "redis", "%s", status.CacheError)
	}
	if !strings.Contains(problem, status.LastError) {
		sheet.Line(command.Warn, "last error", "%s ago: %s", since(status.ErrorSince), status.LastError)
	}
	if r := status.Reconcile; r != nil {
		sheet.Line(command.Warn, "reconcile", "%s for %s: %s", r.Stage, since(r.Since), r.Reason)
		line("", "%s", bar(r))
		if !r.ProvisionalSince.IsZero() {
			line("", "served provisionally for %s", since(r.ProvisionalSince))
		}
	}
	if r := status.Reconciled; r != nil {
		line("last reconcile", "%s ago in %s: %s; %d of %s written, %d removed",
			since(r.Finished), pages.Took(r.Took), r.Reason, r.TeamsWritten, pages.Count(r.Teams, "team"), r.TeamsGone)
	}
	if v := status.Verify; v != nil {
		mood, outcome := command.Plain, "no drift in "+pages.Count(v.Rows, "row")
		switch {
		case v.Error != "":
			mood, outcome = command.Bad, "not completed: "+v.Error
		case v.Drift > 0:
			mood, outcome = command.Bad, "drift in "+pages.Count(v.Drift, "record")
		}
		sheet.Line(mood, "last verify", "%s ago: %s", since(v.Finished), outcome)
	}
	return sheet.Print()
}
