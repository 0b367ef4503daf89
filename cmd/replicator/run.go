package main

import (
	"context"
	"errors"
	"io"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/everflag/everflag/cachewriter"
	"github.com/everflag/everflag/internal/admin"
	"github.com/everflag/everflag/internal/backoff"
	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/command"
	"github.com/everflag/everflag/internal/logging"
	"github.com/everflag/everflag/replication"
)

// The two halves meet here, and nowhere else.
var (
	_ replication.Sink     = (*cachewriter.Writer)(nil)
	_ replication.Observer = (*cachewriter.Writer)(nil)
)

// replicate runs until the context ends. Start order: the admin address, then Postgres, then Redis. Stop order: stop receiving, finish the batch in hand,
// acknowledge, close replication, close Redis.
func (s *settings) replicate(ctx context.Context, stderr io.Writer) error {
	log, level, err := logging.New(stderr, s.LogLevel, s.LogFormat)
	if err != nil {
		return command.BadSettingf("--log-level", "%w", err)
	}
	defer func() { _ = log.Sync() }() // a terminal cannot be synced, and says so
	config, err := s.replication()
	if err != nil {
		return err
	}
	client, err := s.redisClient()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // what was written has been confirmed
	registry := admin.NewRegistry()
	writerConfig := s.writer(client, log)
	writerConfig.Registerer = registry
	writer := cachewriter.New(writerConfig)
	judged, err := preflight(ctx, writer, log)
	if err != nil {
		return err
	}
	changes := &feed{}
	replicator, err := replication.New(config, observed{writer, changes}, log, registry)
	if err != nil {
		return command.BadSettings{Err: err}
	}
	board, err := newBoard(replicator.Status, changes, log)
	if err != nil {
		return err
	}
	private, err := admin.Listen(ctx, admin.Config{
		Addr: s.AdminAddr, Ready: func() error { return ready(replicator.Status()) }, Status: func() any { return replicator.Status() },
		Registry: registry, Level: level, Log: log, Routes: board.with(orders(replicator)),
	})
	if err != nil {
		return command.BadSettingf("--admin-addr", "%w: choose another address", err)
	}
	log.Info("replicator started", zap.String("version", command.BuildOf("replicator", version).Text()), zap.String("admin_addr", private.Addr()),
		zap.String("slot", s.Slot), zap.String("publication", s.Publication), zap.String("key_prefix", s.KeyPrefix))

	// The admin listener outlives replication, so that probes and metrics see the end.
	outlive, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	running, end := context.WithCancel(ctx)
	defer end()
	var group errgroup.Group
	if !judged {
		group.Go(func() error {
			err := preflightLater(running, writer, log)
			if err != nil {
				end()
			}
			return err
		})
	}
	group.Go(func() error { return private.Run(outlive) })
	group.Go(func() error { return board.Run(outlive) })
	group.Go(func() error {
		defer stop()
		defer end()
		return replicator.Run(running)
	})
	err = group.Wait()
	log.Info("replicator stopped", zap.Error(errors.Join(err, context.Cause(ctx))))
	return err
}

// preflight refuses a Redis that would lose the cache. One that does not answer yet is not judged.
func preflight(ctx context.Context, writer *cachewriter.Writer, log *zap.Logger) (judged bool, err error) {
	findings, err := writer.Check(ctx, change.Source{})
	if err != nil && !replication.Permanent(err) {
		log.Warn("Redis does not answer yet", zap.Error(err))
		return false, nil
	}
	if err != nil {
		return true, command.BadSettingf("--redis-url", "%w", err)
	}
	return true, accept(findings, log)
}

// preflightLater judges a Redis that did not answer at the start as soon as it does: its first write would not tell that it evicts keys.
func preflightLater(ctx context.Context, writer *cachewriter.Writer, log *zap.Logger) error {
	retry := backoff.Backoff{Min: 200 * time.Millisecond, Max: 10 * time.Second}
	for retry.Wait(ctx) == nil {
		if findings, err := writer.Check(ctx, change.Source{}); err == nil {
			return accept(findings, log)
		}
	}
	return nil
}

// accept refuses what is fatal and warns of the rest.
func accept(findings []cachewriter.Finding, log *zap.Logger) error {
	for _, f := range findings {
		if f.Fatal {
			return command.BadSettingf("--redis-url", "%s: %s", f.What, f.Remedy)
		}
		log.Warn("Redis could lose the cache", zap.String("finding", f.What), zap.String("remedy", f.Remedy))
	}
	return nil
}

// ready is the rule of /readyz.
func ready(status replication.Status) error {
	switch {
	case status.Ready:
		return nil
	case status.LastError != "" && status.Role == replication.RoleConnecting:
		return errors.New("no session: " + status.LastError)
	case status.CacheError != "":
		return errors.New("the cache cannot be written: " + status.CacheError)
	case status.Reconcile != nil:
		return errors.New("reconciling: " + status.Reconcile.Reason)
	case status.Role == replication.RoleConnecting:
		return errors.New("connecting")
	case status.Role == replication.RoleStandby:
		return errors.New("the cache or Postgres does not answer")
	case status.Role == replication.RoleLeader && status.LagSeconds < 0:
		return errors.New("catching up with what was written before it led")
	}
	return errors.New("behind the source, or the cache cannot be reached")
}
