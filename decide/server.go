package decide

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// ServerConfig are the limits of the public listener's connections.
type ServerConfig struct {
	ReadHeaderTimeout time.Duration // for a request's header. Defaults to 5 s.
	ReadTimeout       time.Duration // for a whole request. Defaults to 10 s.
	WriteTimeout      time.Duration // from the end of the header to the end of the answer. Defaults to 20 s.
	IdleTimeout       time.Duration // between requests; longer than SDKs wait between polls. Defaults to 6 min.
	MaxHeaderBytes    int           // Defaults to 32 KiB.
}

// NewServer returns a server for the public listener.
func NewServer(cfg ServerConfig, h *Handler, logger *zap.Logger) *http.Server {
	// Its lines are about single connections and quote addresses; at debug level they do no harm. NewStdLogAt fails for unknown levels only.
	errorLog, _ := zap.NewStdLogAt(logger, zap.DebugLevel)
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: cmp.Or(cfg.ReadHeaderTimeout, 5*time.Second),
		ReadTimeout:       cmp.Or(cfg.ReadTimeout, 10*time.Second),
		WriteTimeout:      cmp.Or(cfg.WriteTimeout, 20*time.Second),
		IdleTimeout:       cmp.Or(cfg.IdleTimeout, 6*time.Minute),
		MaxHeaderBytes:    cmp.Or(cfg.MaxHeaderBytes, 32<<10),
		ErrorLog:          errorLog,
		ConnContext:       withConn,
	}
}

// Stop is how a server ends.
type Stop struct {
	NotReady func()        // called first: load balancers are to look elsewhere
	Delay    time.Duration // how long requests are still accepted after that
	Timeout  time.Duration // for the requests that run when the listener closes. Defaults to 10 s.
}

// Serve answers requests from the listener until ctx ends, then stops in order: not ready, keep serving for the delay while answers ask clients to leave,
// close the listener, finish what runs. It returns when all that is done; an error means that requests were cut off, or that serving failed.
func Serve(ctx context.Context, server *http.Server, listener net.Listener, stop Stop) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(wholeConns{listener}) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	if h, ok := server.Handler.(*Handler); ok {
		h.Drain()
	}
	if stop.NotReady != nil {
		stop.NotReady()
	}
	select {
	case err := <-failed:
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	case <-time.After(stop.Delay):
	}
	// ctx has ended; what still runs gets its own deadline.
	bounded, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), cmp.Or(stop.Timeout, 10*time.Second), errors.New("requests did not end in time"))
	defer cancel()
	err := server.Shutdown(bounded)
	if err != nil {
		err = fmt.Errorf("shutting down: %w", cmp.Or(context.Cause(bounded), err))
		_ = server.Close()
	}
	<-failed
	return err
}
