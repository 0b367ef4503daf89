package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/admin"
	"github.com/everflag/everflag/internal/command"
	"github.com/everflag/everflag/internal/logging"
)

// serve runs until the context ends. Start order: addresses, file, Redis. Stop order: not ready, keep serving for the drain delay, finish requests, stop
// following, write the snapshot file, close Redis.
func (s *settings) serve(ctx context.Context, stderr io.Writer) error {
	log, level, err := logging.New(stderr, s.LogLevel, s.LogFormat)
	if err != nil {
		return command.BadSettingf("--log-level", "%w", err)
	}
	defer func() { _ = log.Sync() }() // a terminal cannot be synced, and says so
	if _, err := memlimit.Set(); err != nil {
		log.Warn("the container's memory limit cannot be read, so the garbage collector does not know it", zap.Error(err))
	}
	leaveRoomForGarbage()

	client, err := s.redisClient()
	if err != nil {
		return err
	}
	if client != nil {
		defer func() { _ = client.Close() }() // nothing is written through it
	}
	registry := admin.NewRegistry()
	storeConfig, err := s.storeConfig(client, log)
	if err != nil {
		return err
	}
	storeConfig.Registerer = registry
	definitions := store.New(storeConfig)
	handlerConfig, err := s.handlerConfig()
	if err != nil {
		return err
	}
	if handlerConfig.GeoIP != nil {
		defer func() { _ = handlerConfig.GeoIP.Close() }() // it was only read
	}
	handler := decide.New(handlerConfig, definitions, log, decide.NewMetrics(registry))

	reader, err := newReader(definitions, log)
	if err != nil {
		return err
	}
	var draining atomic.Bool
	private, err := admin.Listen(ctx, admin.Config{
		Addr: s.AdminAddr, Ready: func() error { return ready(definitions, &draining) }, Status: func() any { return definitions.Status() },
		Registry: registry, Level: level, Log: log,
		Routes: reader.with(map[string]http.Handler{"POST /explain": decide.ExplainHandler(definitions)}),
	})
	if err != nil {
		return command.BadSettingf("--admin-addr", "%w: choose another address", err)
	}
	public, err := s.Public.listen(ctx, log)
	if err != nil {
		return errors.Join(err, private.Close())
	}
	log.Info("decide started", zap.String("version", command.BuildOf("decide", version).Text()), zap.Stringer("addr", public.Addr()), zap.String("admin_addr", private.Addr()))

	// The store and the admin listener outlive the public one: requests that still run need the first, probes the second.
	outlive, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return definitions.Run(outlive) })
	group.Go(func() error { return private.Run(outlive) })
	group.Go(func() error { return reader.Run(outlive) })
	group.Go(func() error {
		defer stop()
		return decide.Serve(ctx, decide.NewServer(decide.ServerConfig{}, handler, log), public, decide.Stop{
			NotReady: func() {
				draining.Store(true)
				log.Info("draining", zap.Error(context.Cause(ctx)), zap.Duration("delay", s.Public.DrainDelay))
			},
			Delay: s.Public.DrainDelay,
		})
	})
	err = group.Wait()
	log.Info("decide stopped", zap.Error(err))
	return err
}

// ready is the rule of /readyz: definitions from anywhere, and not draining. It does not depend on Redis, so that an outage takes no pod out of service.
func ready(definitions *store.Store, draining *atomic.Bool) error {
	if draining.Load() {
		return errors.New("draining")
	}
	if !definitions.Position().Ready {
		return errors.New("no definitions yet, neither from Redis nor from a snapshot file")
	}
	return nil
}

// listen takes the public address.
func (o *publicSettings) listen(ctx context.Context, log *zap.Logger) (net.Listener, error) {
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return nil, command.BadSettingf("--tls-cert and --tls-key", "one needs the other")
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, command.BadSettingf("--addr", "%w: choose another address", err)
	}
	if o.TLSCert == "" {
		return listener, nil
	}
	certificate := &reloading{certFile: o.TLSCert, keyFile: o.TLSKey, log: log}
	if _, err := certificate.get(time.Now()); err != nil {
		return nil, errors.Join(command.BadSettingf("--tls-cert", "%w", err), listener.Close())
	}
	return tls.NewListener(listener, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate.get(time.Now()) },
	}), nil
}
