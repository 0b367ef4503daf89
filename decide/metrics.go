package decide

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everflag/everflag/decide/eval"
)

// statusClasses are the values of the label class.
var statusClasses = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}

// Metrics count what the handler does. No label has a value from a request: the number of series is fixed.
type Metrics struct {
	requests    [endpoints][len(statusClasses)]prometheus.Counter
	seconds     [endpoints]prometheus.Observer
	failures    *prometheus.CounterVec
	rateLimited *prometheus.CounterVec
	inFlight    prometheus.Gauge
	panics      prometheus.Counter
	busy        prometheus.Counter
	regexLimits prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "everflag_decide_requests_total", Help: "Requests by endpoint and class of the answer's status.",
	}, []string{"endpoint", "class"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "everflag_decide_request_seconds", Help: "Time from the request's header to the end of its answer.",
		Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
	}, []string{"endpoint"})
	m := &Metrics{
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "everflag_decide_evaluation_failures_total", Help: "Flags answered as failed, by reason.",
		}, []string{"reason"}),
		rateLimited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "everflag_decide_rate_limited_total", Help: "Requests near or above a rate limit, by limit and by what was done.",
		}, []string{"limit", "action"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "everflag_decide_requests_in_flight", Help: "Requests being answered."}),
		panics:   prometheus.NewCounter(prometheus.CounterOpts{Name: "everflag_decide_panics_total", Help: "Requests that panicked."}),
		busy: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "everflag_decide_busy_total", Help: "Requests turned away because too many run, or too many with large bodies.",
		}),
	}
	m.regexLimits = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "everflag_decide_regex_limits_total", Help: "Searches for a regular expression that hit their limit, so that the pattern did not match.",
	})
	r.MustRegister(requests, seconds, m.failures, m.rateLimited, m.inFlight, m.panics, m.busy, m.regexLimits)
	for _, reason := range eval.ErrorCodes() { // a series that begins with its first event hides it from increase()
		m.failures.WithLabelValues(reason)
	}
	for e := range endpoints {
		m.seconds[e] = seconds.WithLabelValues(endpointNames[e])
		for class, name := range statusClasses {
			m.requests[e][class] = requests.WithLabelValues(endpointNames[e], name)
		}
	}
	return m
}

func (m *Metrics) observe(to endpoint, status int, took time.Duration) {
	m.requests[to][min(max(status/100-1, 0), len(statusClasses)-1)].Inc()
	m.seconds[to].Observe(took.Seconds())
}

// count counts what went wrong in a decision: failed flags, by a fixed set of reasons, and regular expressions at their limit.
func (m *Metrics) count(d *eval.Decision) {
	if d.RegexLimits > 0 {
		m.regexLimits.Add(float64(d.RegexLimits))
	}
	if !d.Errors {
		return
	}
	for i := range d.Results {
		if d.Results[i].Failed {
			m.failures.WithLabelValues(d.Results[i].ErrorCode()).Inc()
		}
	}
}
