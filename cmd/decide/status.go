package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/admin"
	"github.com/everflag/everflag/internal/admin/pages"
	"github.com/everflag/everflag/internal/command"
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
		err = command.PrintJSON(stdout, status)
	} else {
		err = printStatus(stdout, status, time.Now())
	}
	return cmp.Or(err, admin.Ready(ctx, s.AdminURL))
}

func printStatus(stdout io.Writer, status store.Status, now time.Time) error {
	sheet := command.NewSheet(stdout)
	line := func(name, format string, args ...any) { sheet.Line(command.Plain, name, format, args...) }
	since := func(t time.Time) string { return pages.Took(now.Sub(t)) }
	v := indexView{Status: status, Now: now}
	moods := map[string]command.Mood{"good": command.Good, "warn": command.Warn, "bad": command.Bad}
	if status.Source == store.OriginNone {
		sheet.Line(moods[v.Mood()], "state", "%s: clients are answered with 503", v.State())
	} else {
		sheet.Line(moods[v.Mood()], "state", "%s for %s", v.State(), since(status.Since))
	}
	if status.AgeSeconds > 0 {
		sheet.Line(command.Warn, "freshness", "%s: no replicator confirms that the cache follows Postgres", v.Age())
	} else {
		line("freshness", "%s", v.Age())
	}
	writer := "no writer seen"
	if status.Owner != "" {
		writer = "written by " + status.Owner
	}
	line("position", "%s, epoch %d, %s", v.LSN(), status.Epoch, writer)
	line("definitions", "%s in %s, %d of them compiled in %s", pages.Count(status.Teams, "team"), pages.Size(status.RecordBytes), status.Programs, pages.Size(status.ProgramBytes))
	tokens := "503: the cache is not known to be complete and fresh"
	if status.Certain {
		tokens = "401"
	}
	line("unknown tokens", "%s", tokens)
	if status.LastChange != nil {
		line("last change", "%s ago", since(*status.LastChange))
	}
	if status.Reconcile != "" {
		sheet.Line(command.Warn, "reconcile", "%s", status.Reconcile)
	}
	if status.Error != "" && status.ErrorSince != nil {
		sheet.Line(command.Bad, "redis", "failing for %s: %s", since(*status.ErrorSince), status.Error)
	}
	if status.SnapshotAt != nil {
		line("snapshot file", "%s, written %s ago", status.SnapshotFile, since(*status.SnapshotAt))
	}
	if status.FileError != "" {
		sheet.Line(command.Warn, "snapshot file", "%s", status.FileError)
	}
	return sheet.Print()
}
