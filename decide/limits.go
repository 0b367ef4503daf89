package decide

import (
	"cmp"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// RateMode says what happens to requests above the rate limits.
type RateMode uint8

// The modes.
const (
	RateOff     RateMode = iota
	RateLog              // they are counted and logged, and answered
	RateEnforce          // they are answered 429
)

// RateLimit are token buckets per client address and per API token. The defaults are PostHog's.
type RateLimit struct {
	Mode        RateMode // Defaults to RateOff.
	ClientRate  float64  // requests per second and client address. Defaults to 50.
	ClientBurst int      // Defaults to 1250.
	TokenRate   float64  // requests per second and API token. Defaults to 10.
	TokenBurst  int      // Defaults to 625.
}

func (r RateLimit) withDefaults() RateLimit {
	r.ClientRate = cmp.Or(r.ClientRate, 50)
	r.ClientBurst = cmp.Or(r.ClientBurst, 1250)
	r.TokenRate = cmp.Or(r.TokenRate, 10)
	r.TokenBurst = cmp.Or(r.TokenBurst, 625)
	return r
}

const (
	// The definitions endpoint, per team and minute: full answers, and requests with If-None-Match.
	definitionsRate  = 600
	revalidationRate = 6000

	limiterKeys    = 50_000      // buckets kept per limit; whoever is forgotten starts with a full one
	limiterKeySize = 200         // bytes of a key that count: as many as a token in posthog_team can have
	rateLogEvery   = time.Minute // at most one line per limit
	warnBelowShare = 0.2         // of the bucket left: answers carry the warning header
)

// limits are the rate limits of one handler.
type limits struct {
	mode          RateMode
	client, token *limiter
	definitions   *limiter
	revalidations *limiter
}

func newLimits(cfg RateLimit, logger *zap.Logger, metrics *Metrics) *limits {
	limit := func(name string, perSecond float64, burst int) *limiter {
		return &limiter{
			rate: rate.Limit(perSecond), burst: burst, buckets: newGenerations[*rate.Limiter](limiterKeys),
			warned: metrics.rateLimited.WithLabelValues(name, "warned"), logger: logger.With(zap.String("limit", name)),
			exceeded: metrics.rateLimited.WithLabelValues(name, map[RateMode]string{RateOff: "off", RateLog: "logged", RateEnforce: "rejected"}[cfg.Mode]),
		}
	}
	return &limits{
		mode:          cfg.Mode,
		client:        limit("client", cfg.ClientRate, cfg.ClientBurst),
		token:         limit("token", cfg.TokenRate, cfg.TokenBurst),
		definitions:   limit("definitions", definitionsRate/60.0, definitionsRate),
		revalidations: limit("revalidations", revalidationRate/60.0, revalidationRate),
	}
}

// checkClient counts a request of the client address.
func (l *limits) checkClient(x *exchange, trusted []netip.Prefix) *apiError {
	if l.mode == RateOff {
		return nil
	}
	return l.check(x, l.client, clientAddr(x.r, trusted).String())
}

// checkToken counts a request with the token.
func (l *limits) checkToken(x *exchange, token string) *apiError {
	return l.check(x, l.token, token)
}

func (l *limits) check(x *exchange, by *limiter, key string) *apiError {
	if l.mode == RateOff {
		return nil
	}
	ok, low := by.allow(key, x.now)
	switch {
	case ok && !low:
		return nil
	case ok:
		by.warned.Inc()
		x.header["X-Posthog-Rate-Limit-Warning"] = corsTrue
		return nil
	}
	by.exceeded.Inc()
	by.log(x.now, l.mode)
	if l.mode == RateLog {
		return nil
	}
	return errRateLimited
}

// limiter holds the buckets of one limit, a bounded number of them.
type limiter struct {
	rate    rate.Limit
	burst   int
	buckets *generations[*rate.Limiter]
	logger  *zap.Logger

	warned, exceeded prometheus.Counter

	mu     sync.Mutex
	logged time.Time
}

// allow takes a token from the key's bucket; low reports that the bucket is nearly empty.
func (l *limiter) allow(key string, now time.Time) (ok, low bool) {
	key = key[:min(len(key), limiterKeySize)]
	bucket, found := l.buckets.get(key)
	if !found { // two requests at once may each make one: the last one stays
		bucket = rate.NewLimiter(l.rate, l.burst)
		l.buckets.set(key, bucket, 1)
	}
	ok = bucket.AllowN(now, 1)
	return ok, bucket.TokensAt(now) < warnBelowShare*float64(l.burst)
}

// log writes a line now and then. The line does not name the key: clients choose it, or it identifies them.
func (l *limiter) log(now time.Time, mode RateMode) {
	l.mu.Lock()
	due := now.Sub(l.logged) >= rateLogEvery
	if due {
		l.logged = now
	}
	l.mu.Unlock()
	if due {
		l.logger.Warn("requests exceed a rate limit", zap.Bool("enforced", mode == RateEnforce))
	}
}
