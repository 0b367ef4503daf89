package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everflag/everflag/cachewriter"
	"github.com/everflag/everflag/internal/admin"
	"github.com/everflag/everflag/internal/command"
	"github.com/everflag/everflag/internal/logging"
	"github.com/everflag/everflag/replication"
)

// orders are the routes by which a running replicator is told to do something. They answer when it is done.
func orders(replicator *replication.Replicator) map[string]http.Handler {
	return map[string]http.Handler{
		"POST /rebuild": orderHandler(func(r *http.Request) (any, error) { return replicator.Rebuild(r.Context()) }),
		"POST /verify": orderHandler(func(r *http.Request) (any, error) {
			return replicator.Verify(r.Context(), r.URL.Query().Get("repair") == "true")
		}),
	}
}

// orderHandler answers with the report of what was done.
func orderHandler(do func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		report, err := do(r)
		switch {
		case errors.Is(err, replication.ErrNotLeading):
			http.Error(w, err.Error(), http.StatusConflict)
		case err != nil:
			http.Error(w, logging.Redact(err.Error()), http.StatusInternalServerError)
		default:
			admin.WriteJSON(w, http.StatusOK, report)
		}
	})
}

// order has the leader do something: the replicator at --admin-url, or, if none listens there, this process, provided that nobody leads.
func (s *settings) order(
	ctx context.Context, path string, report any, stderr io.Writer, do func(context.Context, *replication.Replicator) (any, error),
) error {
	ctx, finished := context.WithCancel(ctx)
	defer finished()
	status := func() (replication.Status, error) { return s.fetchStatus(ctx) }
	bar := newProgress(stderr)
	defer bar.stop()
	go bar.follow(ctx, status)
	err := admin.Call(ctx, s.AdminURL, http.MethodPost, path, report)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	config, log, err := s.offline(stderr)
	if err != nil {
		return err
	}
	client, err := s.redisClient()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // what was written has been confirmed
	replicator, err := replication.New(config, cachewriter.New(s.writer(client, log)), log, prometheus.NewRegistry())
	if err != nil {
		return command.BadSettings{Err: err}
	}
	go bar.follow(ctx, func() (replication.Status, error) { return replicator.Status(), nil })
	return lead(ctx, replicator, report, do)
}

// lead runs the replicator until the order is done.
func lead(ctx context.Context, replicator *replication.Replicator, report any, do func(context.Context, *replication.Replicator) (any, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		err := replicator.Run(ctx)
		cancel(err) // the order will never be done
		ended <- err
	}()
	done, err := do(ctx, replicator)
	cancel(nil)
	if ran := <-ended; ran != nil {
		return ran
	}
	if err != nil {
		return err
	}
	text, err := json.Marshal(done)
	if err != nil {
		return fmt.Errorf("encoding the report: %w", err)
	}
	return json.Unmarshal(text, report)
}

func (s *settings) fetchStatus(ctx context.Context) (status replication.Status, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("no answer within 5 s"))
	defer cancel()
	return status, admin.Call(ctx, s.AdminURL, http.MethodGet, "/status", &status)
}
