package decide

import (
	"cmp"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/everflag/everflag/decide/eval"
)

// Config are the settings of the public listener's handler.
type Config struct {
	Rules          eval.Rules     // which generation of PostHog's errors and fields /decide follows; the programs of the Source have it, too. Defaults to RulesCurrent.
	StaleAfter     time.Duration  // age of the last fresh heartbeat from which on answers say that they are stale. Defaults to 30 s.
	MaxConcurrent  int            // requests that are decoded and evaluated at the same time; more are answered 503. Defaults to 1024.
	TrustedProxies []netip.Prefix // hops of X-Forwarded-For that are believed. Defaults to none.
	RateLimit      RateLimit      // Defaults to off.
	DefinitionKeys DefinitionKeys // secret keys beside those of the teams' records. Defaults to none.
	GeoIP          *GeoIP         // fills $geoip_ properties. Defaults to nil: they are unknown.
}

func (c Config) withDefaults() Config {
	c.StaleAfter = cmp.Or(c.StaleAfter, 30*time.Second)
	c.MaxConcurrent = cmp.Or(c.MaxConcurrent, 1024)
	c.RateLimit = c.RateLimit.withDefaults()
	return c
}

// Handler serves the public listener.
type Handler struct {
	cfg     Config
	source  Source
	logger  *zap.Logger
	metrics *Metrics

	exchanges sync.Pool
	running   atomic.Int64 // requests that hold a slot
	draining  atomic.Bool
	limits    *limits
	views     *generations[*view]
	texts     *generations[[]byte]
	feeds     *generations[*feed]
	rendering singleflight.Group
}

// New returns a handler that answers from the source.
func New(cfg Config, source Source, logger *zap.Logger, metrics *Metrics) *Handler {
	cfg = cfg.withDefaults()
	h := &Handler{
		cfg: cfg, source: source, logger: logger, metrics: metrics, limits: newLimits(cfg.RateLimit, logger, metrics),
		views: newGenerations[*view](maxViews), texts: newGenerations[[]byte](maxViewTexts), feeds: newGenerations[*feed](maxFeeds),
	}
	bodies := newRoom(metrics.busy)
	h.exchanges.New = func() any { return &exchange{body: body{room: bodies}} }
	return h
}

// Drain makes every further answer the last one on its connection, so that clients leave before the listener does.
func (h *Handler) Drain() { h.draining.Store(true) }

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to, argument := route(r)
	h.metrics.inFlight.Inc()
	x := h.exchanges.Get().(*exchange)
	x.begin(w, r, to, h.cfg.Rules)
	defer h.finish(x)

	setCORS(x.header, r)
	if h.draining.Load() {
		x.header["Connection"] = []string{"close"}
	}
	if e := h.answer(x, argument); e != nil {
		x.fail(e)
	}
	x.release()
	x.send()
}

// finish contains a panic and accounts for the request.
func (h *Handler) finish(x *exchange) {
	problem := recover()
	if problem != nil && problem != http.ErrAbortHandler { //nolint:errorlint // recovered values are compared as net/http does
		h.metrics.panics.Inc()
		h.logPanic(problem)
		if !x.sent {
			x.fail(errInternal)
			x.release()
			x.send()
			problem = nil
		}
	}
	h.metrics.inFlight.Dec()
	h.metrics.observe(x.to, x.status, time.Since(x.now))
	if problem != nil {
		panic(http.ErrAbortHandler) // part of the answer is out: only cutting the connection tells the client
	}
	x.end()
	h.exchanges.Put(x)
}

// logPanic logs where it happened. What the panic says may quote the request, so only the texts of the runtime itself are logged.
func (h *Handler) logPanic(problem any) {
	text := ""
	if err, ok := problem.(runtime.Error); ok {
		text = err.Error()
	}
	h.logger.Error("a request panicked", zap.String("panic", text), zap.ByteString("stack", debug.Stack()))
}

// answer puts the answer to the request together.
func (h *Handler) answer(x *exchange, argument string) *apiError {
	if x.to == endpointUnknown {
		return errNotFound
	}
	if x.r.Method == http.MethodOptions {
		return h.options(x)
	}
	switch x.to {
	case endpointFlags, endpointDecide:
		return h.flags(x)
	case endpointConfig, endpointConfigScript:
		return h.remoteConfig(x, argument)
	case endpointDefinitions:
		return h.definitions(x)
	case endpointOFREP, endpointOFREPBulk:
		return h.ofrep(x, argument)
	default:
		return errNotFound
	}
}

func (h *Handler) options(x *exchange) *apiError {
	x.header["Allow"] = corsMethods
	if x.legacy {
		x.json()
		x.out = append(x.out, `{"status":1}`...)
		return nil
	}
	x.status = http.StatusNoContent
	return nil
}

// allow reports whether the method is one of those; HEAD goes with GET.
func (x *exchange) allow(methods ...string) bool {
	for _, m := range methods {
		if x.r.Method == m || x.r.Method == http.MethodHead && m == http.MethodGet {
			return true
		}
	}
	x.header["Allow"] = corsMethods
	return false
}

// flags answers /flags and /decide.
func (h *Handler) flags(x *exchange) *apiError {
	switch {
	case !x.allow(http.MethodGet, http.MethodPost):
		return errMethod
	case x.r.Method == http.MethodHead:
		return nil
	case x.r.Method == http.MethodGet:
		x.minimal()
		return nil
	}
	if e := h.limits.checkClient(x, h.cfg.TrustedProxies); e != nil {
		return e
	}
	texts := x.errors()
	if err := x.body.read(x.r); err != nil {
		return texts.bodyError(err)
	}
	if !h.enter() {
		h.metrics.busy.Inc()
		return errBusy
	}
	defer h.leave()
	if err := x.body.decodeInto(&x.request, x.r, x.query.compression, x.legacy); err != nil {
		return texts.bodyError(err)
	}
	return h.evaluate(x)
}

// enter takes a slot of the concurrency limit if there is one. It is held while a request computes, never while it waits for its client: clients that
// send slowly must not keep others out.
func (h *Handler) enter() bool {
	if h.running.Add(1) > int64(h.cfg.MaxConcurrent) {
		h.running.Add(-1)
		return false
	}
	return true
}

func (h *Handler) leave() { h.running.Add(-1) }

// evaluate answers a decoded request. The order of the checks is PostHog's.
func (h *Handler) evaluate(x *exchange) *apiError {
	req, texts := &x.request, x.errors()
	if req.token == "" {
		return texts.noToken
	}
	if e := h.limits.checkToken(x, req.token); e != nil {
		return e
	}
	program, e := h.program(x, req.token)
	if e != nil {
		return e
	}
	if !req.hasDistinctID && !req.disableFlags {
		return texts.noDistinctID
	}
	view, e := h.view(x, program, req.token)
	if e != nil {
		return e
	}
	f, config := x.query.selectFormat(x.to, x.legacy)
	var d *eval.Decision
	if !req.disableFlags {
		d = h.decide(x, program)
	}
	x.appendAnswer(f, d, view, config)
	return nil
}

// program finds the team and notes the state that the answer will reflect.
func (h *Handler) program(x *exchange, token string) (*eval.Program, *apiError) {
	program, lookup := h.source.Program(token)
	position := h.source.Position()
	if x.stale = position.Stale >= h.cfg.StaleAfter; x.stale {
		x.header["X-Everflag-Stale"] = []string{strconv.FormatInt(int64(position.Stale/time.Second), 10)}
	}
	switch lookup {
	case Found:
		x.setVersion(program.Version())
		return program, nil
	case Absent:
		x.setVersion(position.Checkpoint)
		return nil, x.errors().unknownToken
	default:
		x.setVersion(position.Checkpoint)
		return nil, errUnavailable
	}
}

// decide evaluates the request.
func (h *Handler) decide(x *exchange, program *eval.Program) *eval.Decision {
	req := &x.request
	req.input.Now = x.now
	req.input.SurveysOnly = x.query.surveysOnly
	req.input.Runtime = cmp.Or(req.runtime, detectRuntime(x.r.Header))
	if h.cfg.GeoIP != nil && !req.geoipDisable {
		req.input.GeoIP = h.cfg.GeoIP.properties(clientAddr(x.r, h.cfg.TrustedProxies))
	}
	d := program.Evaluate(&req.input, &req.scratch)
	h.metrics.count(d)
	return d
}
