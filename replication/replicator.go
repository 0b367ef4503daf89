package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/backoff"
	"github.com/everflag/everflag/internal/change"
)

// Replicator keeps one cache equal to one source. See the package comment.
type Replicator struct {
	cfg     Config
	sink    Sink
	log     *zap.Logger
	metrics *metrics

	requests chan request

	// Progress of a copy, written by whoever consumes it.
	copiedTeams, copiedRows atomic.Int64
	received                atomic.Int64

	mu     sync.Mutex
	status Status // guarded by mu

	// Owned by Run, across its sessions.
	established bool          // a session has streamed
	renewed     string        // the slot was created anew for this reason, and no reconcile has completed since
	undecodable string        // why the slot cannot be read any further
	lockLimit   time.Duration // for the next creation of the slot
	lastVerify  time.Time
}

// request asks the session that leads for something.
type request struct {
	verify bool // else: rebuild
	repair bool
	done   chan response
}

type response struct {
	verify VerifyReport
	report ReconcileReport
	err    error
}

// ErrNotLeading is the answer to Rebuild and Verify while another replicator leads.
var ErrNotLeading = errors.New("another replicator leads")

// errAgain asks for another session at once.
var errAgain = errors.New("start again")

// New checks the configuration. Metrics are registered with the registerer.
func New(cfg Config, sink Sink, log *zap.Logger, registerer prometheus.Registerer) (*Replicator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Replicator{
		cfg:      cfg,
		sink:     sink,
		log:      log,
		metrics:  newMetrics(registerer),
		requests: make(chan request),

		lastVerify: time.Now(),
		status: Status{
			Role:        RoleConnecting,
			Since:       time.Now(),
			Slot:        cfg.Slot,
			Publication: cfg.Publication,
			LagSeconds:  -1,
		},
	}
	return r, nil
}

// How long to wait between sessions that fail.
const (
	sessionRetryMin = 100 * time.Millisecond
	sessionRetryMax = 10 * time.Second
)

// Run replicates until the context ends, which is no error, or something fails that waiting cannot mend. It returns after everything it started has ended.
func (r *Replicator) Run(ctx context.Context) error {
	retry := backoff.Backoff{Min: sessionRetryMin, Max: sessionRetryMax}
	reported := ""
	for {
		streamed, err := r.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if streamed {
			r.established = true
			retry.Reset()
			reported = ""
		}
		if errors.Is(err, errAgain) {
			continue
		}
		if hasState(err, stateUndefinedObject) && !errors.Is(err, errTaken) {
			// The slot decodes with the catalog of its own past, in which the publication does not exist (F48). It never gets beyond that.
			r.undecodable = "the log of a time without publication cannot be read"
		}
		r.setRole(RoleConnecting, "")
		r.update(func(s *Status) {
			if s.LastError == "" {
				s.ErrorSince = time.Now()
			}
			s.LastError = err.Error()
		})
		r.metrics.sessions.WithLabelValues(sessionEnd(err)).Inc()
		if Permanent(err) && (!r.established || lasting(err)) {
			return err
		}
		if text := err.Error(); text != reported { // once per failure, however often it is tried again
			r.log.Warn("no session with Postgres, trying again", zap.Error(err))
			reported = text
		}
		if retry.Wait(ctx) != nil {
			return nil
		}
	}
}

// sessionEnd classes the end of a session for a metric.
func sessionEnd(err error) string {
	switch {
	case errors.Is(err, change.ErrFenced):
		return "fenced"
	case errors.Is(err, errStopping):
		return "postgres_stopping"
	case errors.Is(err, errSilent):
		return "postgres_silent"
	case errors.Is(err, errMalformed):
		return "malformed"
	case Permanent(err):
		return "refused"
	}
	return "connection"
}

// Rebuild asks for a reconcile and waits for it. It can be asked before Run has a session.
func (r *Replicator) Rebuild(ctx context.Context) (ReconcileReport, error) {
	answer, err := r.ask(ctx, request{})
	return answer.report, err
}

// Verify asks for a comparison of cache and source, with a reconcile if repair is set and they differ, and waits for both.
func (r *Replicator) Verify(ctx context.Context, repair bool) (VerifyReport, error) {
	answer, err := r.ask(ctx, request{verify: true, repair: repair})
	return answer.verify, err
}

func (r *Replicator) ask(ctx context.Context, req request) (response, error) {
	req.done = make(chan response, 1)
	select {
	case r.requests <- req:
	case <-ctx.Done():
		return response{}, fmt.Errorf("waiting for a session with Postgres: %w", context.Cause(ctx))
	}
	select {
	case answer := <-req.done:
		return answer, answer.err
	case <-ctx.Done():
		return response{}, context.Cause(ctx)
	}
}
