package replication

import (
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
	received         prometheus.Counter
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

func newMetrics(registerer prometheus.Registerer) *metrics {
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
	vector := func(name, help, label string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "everflag_replicator", Name: name, Help: help}, []string{label})
		registerer.MustRegister(v)
		return v
	}
	return &metrics{
		leader:           gauge("leader", "1 if this process owns the replication slot."),
		lagBytes:         gauge("lag_bytes", "Bytes of log between its end and what the cache holds."),
		lagSeconds:       gauge("lag_seconds", "Age of the state in the cache; -1 if not known."),
		retained:         gauge("retained_wal_bytes", "Bytes of log that the source keeps for the slot."),
		spilled:          gauge("slot_spilled_bytes", "Bytes that the source has written to disk while it decoded for the slot, because transactions outgrew logical_decoding_work_mem."),
		xminAge:          gauge("slot_catalog_xmin_age", "Transactions since the oldest one whose catalog rows the slot keeps from vacuum."),
		queued:           gauge("queued_bytes", "Memory of transactions that wait for the cache."),
		received:         counter("received_bytes_total", "Bytes received from the replication stream."),
		transactions:     counter("transactions_total", "Transactions applied."),
		rows:             counter("rows_total", "Row changes applied."),
		sessions:         vector("session_ends_total", "Sessions with the source that ended, by reason.", "reason"),
		sinkErrors:       counter("cache_errors_total", "Calls of the cache that failed."),
		reconciles:       vector("reconciles_total", "Reconciles by result.", "result"),
		reconcileSeconds: gauge("reconcile_seconds", "Duration of the last complete reconcile."),
		reconcileTeams:   gauge("reconcile_teams_written", "Teams that the last complete reconcile wrote or removed."),
		pending:          gauge("reconcile_pending", "1 while a reconcile is due or under way."),
		released:         counter("wal_releases_total", "Times log was given back because the cache was away."),
		verifies:         vector("verifies_total", "Verifies by result.", "result"),
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
}
