package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

	copiedTeams, copiedRows atomic.Int64 // progress of a copy, written by whoever consumes it
	received                atomic.Int64 // bytes of the stream, written by the receiver

	mu     sync.Mutex
	status Status // guarded by mu

	// Owned by Run, across its sessions.
	established bool          // a session has streamed, or stood by
	admitted    bool          // the source has let us in: the settings were right
	renewed     string        // the slot was created anew for this reason, and no reconcile has completed since
	undecodable string        // why the slot cannot be read any further
	lockLimit   time.Duration // for the next creation of the slot
	lastVerify  time.Time
	away        bool   // the last session that led ended while the cache was away
	rescues     int    // from leaders that did not reach the cache, since this one has written as the leader
	stoodBy     string // what the log says of whom it stood by for last
	ended       int32  // the last walsender that was ended
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
	r.metrics = newMetrics(registerer, &r.received)
	return r, nil
}

// How long to wait between sessions that fail.
const (
	sessionRetryMin = 100 * time.Millisecond
	sessionRetryMax = 10 * time.Second
	asideFor        = 3 * time.Second // for a leader without a cache, so that a standby that ended it comes first
)

// Run replicates until the context ends, which is no error, or something fails that waiting cannot mend. It returns after everything it started has ended.
func (r *Replicator) Run(ctx context.Context) error {
	retry, aside := backoff.Backoff{Min: sessionRetryMin, Max: sessionRetryMax}, backoff.Backoff{Min: asideFor, Max: asideFor}
	var told told
	for {
		streamed, err := r.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if streamed {
			r.established = true
			retry.Reset()
			told = nil
		}
		if errors.Is(err, errAgain) {
			continue
		}
		if hasState(err, stateUndefinedObject) && !errors.Is(err, errTaken) {
			// The slot decodes with the catalog of its own past, in which the publication does not exist (F48). It never gets beyond that.
			r.undecodable = "the log of a time without publication cannot be read"
			r.away = false // nobody else can read it either, and it keeps log until it is dropped
		}
		r.setRole(RoleConnecting, "")
		r.update(func(s *Status) {
			if s.LastError == "" {
				s.ErrorSince = time.Now()
			}
			s.LastError = err.Error()
		})
		r.metrics.sessions.WithLabelValues(sessionEnd(err)).Inc()
		if Permanent(err) && (lasting(err) || !r.established && !(r.admitted && deniesLogin(err))) {
			return err
		}
		if told.first(err) {
			r.log.Warn("no session, trying again", zap.Error(err))
		}
		wait := &retry
		if r.away {
			wait, r.away = &aside, false
		}
		if wait.Wait(ctx) != nil {
			return nil
		}
	}
}

// told are the kinds of errors that the log knows of since all was well, so that each is a line once, however often it is tried again and whichever others
// come in between (F75). /status has the last one.
type told []string

// maxTold bounds them, for errors that are always new.
const maxTold = 10

// first reports whether the error is news. Numbers make no other kind: an error of the network names the ports of its connection.
func (t *told) first(err error) bool {
	kind := strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, err.Error())
	if len(*t) == maxTold || slices.Contains(*t, kind) {
		return false
	}
	*t = append(*t, kind)
	return true
}

// sessionEnd classes the end of a session for a metric.
func sessionEnd(err error) string {
	switch {
	case errors.Is(err, change.ErrFenced):
		return endFenced
	case errors.Is(err, errStopping):
		return endStopping
	case errors.Is(err, errSilent):
		return endSilent
	case errors.Is(err, errMalformed):
		return endMalformed
	case Permanent(err):
		return endRefused
	}
	return endConnection
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
