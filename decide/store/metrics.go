package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the numbers of one store.
type metrics struct {
	revalidations *prometheus.CounterVec
	entries       prometheus.Counter
	errors        prometheus.Counter
	unreadable    prometheus.Counter
	compiles      prometheus.Counter
	evictions     prometheus.Counter
	saves         *prometheus.CounterVec
}

// reasons to revalidate, all of them.
var reasons = []string{
	reasonStart, reasonOwner, reasonEpoch, reasonBack, reasonConfirmed, reasonGap, reasonBehind, reasonReconcile, reasonComplete, reasonEntry,
}

// Results of writes of the snapshot file: values of a label.
const (
	saveWritten = "written"
	saveFailed  = "failed"
)

func newMetrics(s *Store, registerer prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "everflag_decide_" + name, Help: help})
	}
	m := &metrics{
		revalidations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "everflag_decide_revalidations_total", Help: "Comparisons of all versions with the cache, by reason.",
		}, []string{"reason"}),
		entries:    counter("changes_total", "Entries of the changes stream that were applied."),
		errors:     counter("redis_errors_total", "Steps of the conversation with Redis that did not work."),
		unreadable: counter("unreadable_teams_total", "Teams whose records could not be used."),
		compiles:   counter("compilations_total", "Teams compiled."),
		evictions:  counter("evictions_total", "Compiled teams dropped because of the memory limit."),
		saves: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "everflag_decide_snapshot_writes_total", Help: "Writes of the snapshot file, by result.",
		}, []string{"result"}),
	}
	for _, reason := range reasons { // a series that begins with its first event hides it from increase()
		m.revalidations.WithLabelValues(reason)
	}
	for _, result := range []string{saveWritten, saveFailed} {
		m.saves.WithLabelValues(result)
	}
	if registerer == nil {
		return m
	}
	registerer.MustRegister(m.revalidations, m.entries, m.errors, m.unreadable, m.compiles, m.evictions, m.saves)
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		registerer.MustRegister(prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: "everflag_decide_" + name, Help: help, ConstLabels: labels}, value))
	}
	gauge("teams", "Teams in memory.", nil, func() float64 { return float64(s.view.Load().teams.size) })
	gauge("record_bytes", "Bytes of the packed records in memory.", nil, func() float64 { return float64(s.view.Load().records) })
	gauge("programs", "Compiled teams in memory.", nil, func() float64 { n, _ := s.programs.count(); return float64(n) })
	gauge("program_bytes", "Estimated bytes of the compiled teams.", nil, func() float64 { _, n := s.programs.count(); return float64(n) })
	gauge("definitions_age_seconds", "Time since the last heartbeat of the cache that was seen; 0 while they come.", nil,
		func() float64 { return s.condition.Load().stale(time.Now()).Seconds() })
	gauge("last_change_timestamp_seconds", "When the last change was served; 0 = never.", nil, func() float64 { return unix(s.condition.Load().applied) })
	gauge("snapshot_timestamp_seconds", "When the snapshot file was written last; 0 = never.", nil, func() float64 { return unix(s.saved.Load().at) })
	gauge("epoch", "Epoch of the cache that is followed.", nil, func() float64 { return float64(s.condition.Load().cursor.epoch) })
	for _, source := range []Origin{OriginNone, OriginFile, OriginRedis, OriginMemory} {
		gauge("source", "1 for where answers come from: file, redis, or memory when Redis does not answer.", prometheus.Labels{"source": string(source)},
			func() float64 {
				if s.source(s.condition.Load(), time.Now()) == source {
					return 1
				}
				return 0
			})
	}
	return m
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
