package cachewriter

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what a dashboard needs to know of the writer.
type metrics struct {
	latency    *prometheus.HistogramVec
	errors     *prometheus.CounterVec
	fences     prometheus.Counter
	teams      *prometheus.CounterVec
	txs, rows  prometheus.Counter
	indexed    prometheus.Gauge
	epoch      prometheus.Gauge
	incomplete prometheus.Gauge
}

// Why a team's version rose: values of a label.
const (
	causeStream    = "stream"
	causeReconcile = "reconcile"
)

// newMetrics registers with r unless it is nil.
func newMetrics(r prometheus.Registerer) *metrics {
	const namespace, subsystem = "everflag", "cachewriter"
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	}
	m := &metrics{
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "redis_seconds", Help: "Round trips of scripts.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
		}, []string{"step"}),
		errors:     prometheus.NewCounterVec(counter("redis_errors_total", "Errors of Redis by class."), []string{"class"}),
		fences:     prometheus.NewCounter(counter("fenced_total", "Writes that Redis refused because the cache was no longer ours.")),
		teams:      prometheus.NewCounterVec(counter("teams_written_total", "Teams whose version rose, by cause."), []string{"cause"}),
		txs:        prometheus.NewCounter(counter("transactions_total", "Transactions applied.")),
		rows:       prometheus.NewCounter(counter("row_changes_total", "Row changes applied, before their net effect was taken.")),
		indexed:    gauge("indexed_rows", "Rows in the index."),
		epoch:      gauge("epoch", "Epoch of this leader, 0 if it does not lead."),
		incomplete: gauge("reconcile_due", "1 if the reconcile marker is set."),
	}
	for _, class := range classes { // a series that begins with its first event hides it from increase()
		m.errors.WithLabelValues(string(class))
	}
	for _, cause := range []string{causeStream, causeReconcile} {
		m.teams.WithLabelValues(cause)
	}
	if r != nil {
		r.MustRegister(m.latency, m.errors, m.fences, m.teams, m.txs, m.rows, m.indexed, m.epoch, m.incomplete)
	}
	return m
}

func (m *metrics) observe(step string, took time.Duration) {
	m.latency.WithLabelValues(step).Observe(took.Seconds())
}

func (m *metrics) applied(in *inflight, teams any, indexed int) {
	n, _ := teams.(int64)
	m.teams.WithLabelValues(causeStream).Add(float64(n))
	m.txs.Add(float64(in.txs))
	m.rows.Add(float64(in.rows))
	m.indexed.Set(float64(indexed))
}

func (m *metrics) fenced() {
	m.fences.Inc()
	m.epoch.Set(0)
}

func (m *metrics) marked(marker string) {
	if marker == "" {
		m.incomplete.Set(0)
		return
	}
	m.incomplete.Set(1)
}
