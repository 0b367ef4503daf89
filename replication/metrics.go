package replication

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the replicator exports.
type metrics struct {
	leader           prometheus.Gauge
	lagBytes         prometheus.Gauge
	lagSeconds       prometheus.Gauge
	retained         prometheus.Gauge
	spilled          prometheus.Gauge
	xminAge          prometheus.Gauge
	queued           prometheus.Gauge
	transactions     prometheus.Counter
	rows             prometheus.Counter
	sessions         *prometheus.CounterVec
	sinkErrors       prometheus.Counter
	reconciles       *prometheus.CounterVec
	reconcileSeconds prometheus.Gauge
	reconcileTeams   prometheus.Gauge
	pending          prometheus.Gauge
	released         prometheus.Counter
	verifies         *prometheus.CounterVec
	drift            prometheus.Gauge
	verified         prometheus.Gauge
}

// Why sessions end: values of a label.
const (
	endFenced     = "fenced"
	endStopping   = "postgres_stopping"
	endSilent     = "postgres_silent"
	endMalformed  = "malformed"
	endRefused    = "refused"
	endConnection = "connection"
)

// How reconciles and verifies end: values of a label.
const (
	resultComplete    = "complete"
	resultProvisional = "provisional"
	resultClean       = "clean"
	resultDrift       = "drift"
	resultFailed      = "failed"
)

// newMetrics registers the metrics. received counts the bytes of the stream: its receiver adds to it for every message, which must cost next to nothing.
func newMetrics(registerer prometheus.Registerer, received *atomic.Int64) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "everflag_replicator", Name: name, Help: help})
		registerer.MustRegister(g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "everflag_replicator", Name: name, Help: help})
		registerer.MustRegister(c)
		return c
	}
	vector := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "everflag_replicator", Name: name, Help: help}, []string{label})
		registerer.MustRegister(v)
		for _, value := range values { // a series that begins with its first event hides it from increase()
			v.WithLabelValues(value)
		}
		return v
	}
	registerer.MustRegister(prometheus.NewCounterFunc(
		prometheus.CounterOpts{Namespace: "everflag_replicator", Name: "received_bytes_total", Help: "Bytes received from the replication stream."},
		func() float64 { return float64(received.Load()) },
	))
	return &metrics{
		leader:           gauge("leader", "1 if this process owns the replication slot."),
		lagBytes:         gauge("lag_bytes", "Bytes of log between its end and what the cache holds."),
		lagSeconds:       gauge("lag_seconds", "Age of the state in the cache; -1 if not known."),
		retained:         gauge("retained_wal_bytes", "Bytes of log that the source keeps for the slot."),
		spilled:          gauge("slot_spilled_bytes", "Bytes that the source has written to disk while it decoded for the slot, because transactions outgrew logical_decoding_work_mem."),
		xminAge:          gauge("slot_catalog_xmin_age", "Transactions since the oldest one whose catalog rows the slot keeps from vacuum."),
		queued:           gauge("queued_bytes", "Memory of transactions that wait for the cache."),
		transactions:     counter("transactions_total", "Transactions applied."),
		rows:             counter("rows_total", "Row changes applied."),
		sessions:         vector("session_ends_total", "Sessions with the source that ended, by reason.", "reason", endFenced, endStopping, endSilent, endMalformed, endRefused, endConnection),
		sinkErrors:       counter("cache_errors_total", "Calls of the cache that failed."),
		reconciles:       vector("reconciles_total", "Reconciles by result.", "result", resultComplete, resultProvisional, resultFailed),
		reconcileSeconds: gauge("reconcile_seconds", "Duration of the last complete reconcile."),
		reconcileTeams:   gauge("reconcile_teams_written", "Teams that the last complete reconcile wrote or removed."),
		pending:          gauge("reconcile_pending", "1 while a reconcile is due or under way."),
		released:         counter("wal_releases_total", "Times log was given back because the cache was away."),
		verifies:         vector("verifies_total", "Verifies by result.", "result", resultClean, resultDrift, resultFailed),
		drift:            gauge("drift_records", "Records that differed in the last verify."),
		verified:         gauge("verified_timestamp_seconds", "When the last verify ended."),
	}
}

func (m *metrics) role(role Role) {
	leads := 0.0
	if role == RoleLeader {
		leads = 1
	}
	m.leader.Set(leads)
	if role != RoleStandby {
		return
	}
	for _, known := range []prometheus.Gauge{m.lagBytes, m.retained, m.queued, m.pending, m.drift} { // by the leader alone; else its alerts would never end
		known.Set(0)
	}
	m.lagSeconds.Set(-1)
}
