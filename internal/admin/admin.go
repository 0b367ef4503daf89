// Package admin is the private listener of both programs. It guarantees that probes answer without I/O: /livez as long as the process runs, /readyz from
// the program's own state, and beside them /status, /metrics, /debug/pprof and /log/level. It must never be reachable by clients.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Config is what a program shows of itself.
type Config struct {
	Addr     string       // host:port to listen on
	Ready    func() error // nil = ready; else the reason, for people; must not block
	Status   func() any   // rendered as JSON at /status; must not block
	Registry *prometheus.Registry
	Level    http.Handler            // reads (GET) and changes (PUT) the log level
	Routes   map[string]http.Handler // further routes by ServeMux pattern
	Log      *zap.Logger
}

// Server is the private listener.
type Server struct {
	cfg      Config
	listener net.Listener
}

// Listen takes the address, so that a port in use is known before the program does anything else.
func Listen(ctx context.Context, cfg Config) (*Server, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, listener: listener}, nil
}

// Addr is the address in use, with the port that was given for port 0.
func (s *Server) Addr() string {
	return s.listener.Addr().String()
}

// Run serves until the context ends.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler:           onlyPrivateNames(http.NewCrossOriginProtection().Handler(s.handler())), // a page elsewhere must not give orders through somebody's browser
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          zap.NewStdLog(s.cfg.Log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))),
	}
	stop := context.AfterFunc(ctx, func() {
		// The parent context has just ended; a profile that is being taken gets a moment to finish.
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(bounded) != nil {
			_ = server.Close() // the second attempt has nothing to report: the process is ending
		}
	})
	defer stop()
	if err := server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the admin listener: %w", err)
	}
	return nil
}

// Close gives up the address of a Server that never ran.
func (s *Server) Close() error {
	return s.listener.Close()
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.cfg.Ready(); err != nil {
			writeText(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		writeText(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { WriteJSON(w, http.StatusOK, s.cfg.Status()) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{}))
	mux.Handle("/log/level", s.cfg.Level)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	for pattern, handler := range s.cfg.Routes {
		mux.Handle(pattern, handler)
	}
	return mux
}

// NewRegistry returns a registry with the metrics of the Go runtime, the process and the build.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	)
	return registry
}

// WriteJSON answers with indented JSON, which people read with curl.
func WriteJSON(w http.ResponseWriter, code int, value any) {
	body, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		writeText(w, http.StatusInternalServerError, "encoding the answer: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // a client that has gone away needs no answer
}

func writeText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n")) // a client that has gone away needs no answer
}
