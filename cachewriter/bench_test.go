package cachewriter

import (
	"fmt"
	"iter"
	"runtime"
	"strconv"
	"testing"

	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/redisconn"
	"github.com/everflag/everflag/internal/testenv"
)

// benchWriter returns a Writer of an empty cache.
func benchWriter(b *testing.B) *Writer {
	space := testenv.Redis(b)
	client, err := redisconn.Open(redisconn.Config{URL: space.URL})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	w := New(Config{Client: client, Logger: zap.NewNop(), Prefix: space.Prefix})
	if _, err := w.Acquire(b.Context()); err != nil {
		b.Fatal(err)
	}
	return w
}

// manyFlags is a source with flags of about 450 bytes.
func manyFlags(teams, each int) iter.Seq2[change.TeamRows, error] {
	filters := []byte(`{"groups": [{"properties": [{"key": "email", "type": "person", "value": "@example.com", "operator": "icontains"}], "rollout_percentage": 50}], "payloads": {}, "multivariate": null}`)
	return func(yield func(change.TeamRows, error) bool) {
		for t := range teams {
			rows := make([]change.Row, 0, each+1)
			id := int64(t + 1)
			rows = append(rows, change.Row{Table: modelTables[team], Key: strconv.Itoa(t + 1), Team: id, Columns: []change.Column{
				{Name: "id", Kind: change.Number, Text: strconv.AppendInt(nil, id, 10)}, {Name: "api_token", Text: fmt.Appendf(nil, "phc_%043d", t)},
			}})
			for f := range each {
				rows = append(rows, benchFlag(t*each+f+1, id, filters))
			}
			if !yield(change.TeamRows{Team: id, Rows: rows}, nil) {
				return
			}
		}
	}
}

func benchFlag(id int, team int64, filters []byte) change.Row {
	text := func(n int) []byte { return strconv.AppendInt(nil, int64(n), 10) }
	return change.Row{Table: modelTables[flag], Key: strconv.Itoa(id), Team: team, Columns: []change.Column{
		{Name: "id", Kind: change.Number, Text: text(id)},
		{Name: "key", Text: fmt.Appendf(nil, "flag-%d", id)},
		{Name: "name", Text: []byte("A flag of the benchmark with a description")},
		{Name: "filters", Kind: change.JSON, Text: filters},
		{Name: "team_id", Kind: change.Number, Text: text(int(team))},
		{Name: "active", Kind: change.Bool, Text: []byte("t")},
		{Name: "ensure_experience_continuity", Kind: change.Bool, Text: []byte("f")},
		{Name: "version", Kind: change.Number, Text: text(3)},
		{Name: "evaluation_runtime", Text: []byte("all")},
		{Name: "bucketing_identifier", State: change.Null},
	}}
}

func BenchmarkReconcileEmpty(b *testing.B) {
	for _, shape := range [][2]int{{20_000, 10}, {20, 10_000}} {
		b.Run(fmt.Sprintf("%dx%d", shape[0], shape[1]), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				w := benchWriter(b)
				b.StartTimer()
				if _, err := w.Reconcile(b.Context(), change.Copy{At: 8, Exact: true, Reason: "benchmark", Teams: manyFlags(shape[0], shape[1])}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(shape[0]*shape[1])*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkReconcileEqual(b *testing.B) {
	w := benchWriter(b)
	fill := func(at change.LSN) {
		if _, err := w.Reconcile(b.Context(), change.Copy{At: at, Exact: true, Reason: "benchmark", Teams: manyFlags(20_000, 10)}); err != nil {
			b.Fatal(err)
		}
	}
	fill(8)
	for b.Loop() {
		fill(w.checkpoint + 8)
	}
	b.ReportMetric(200_000*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkApply applies transactions of one row each, or of a thousand, in batches; at batch 1 it is the latency of a lone change.
func BenchmarkApply(b *testing.B) {
	for _, shape := range [][2]int{{1, 1}, {1000, 1}, {10, 1000}} {
		b.Run(fmt.Sprintf("%dx%d", shape[0], shape[1]), func(b *testing.B) {
			w := benchWriter(b)
			if _, err := w.Reconcile(b.Context(), change.Copy{At: 8, Exact: true, Reason: "benchmark", Teams: manyFlags(2000, 10)}); err != nil {
				b.Fatal(err)
			}
			lsn, n := change.LSN(8), 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				batch := change.Batch{}
				for range shape[0] {
					lsn += 8
					tx := &change.Tx{EndLSN: lsn}
					for range shape[1] {
						n = (n + 7919) % 20_000
						row := benchFlag(n+1, int64(n/10+1), fmt.Appendf(nil, `{"groups": [{"properties": [], "rollout_percentage": 50, "n": %d}], "x": "%0300d"}`, lsn, n))
						tx.Changes = append(tx.Changes, change.Change{Row: row})
						tx.Bytes += 450
					}
					batch.Txs = append(batch.Txs, tx)
				}
				batch.Through = lsn
				b.StartTimer()
				if _, err := w.Apply(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			rows := float64(shape[0]*shape[1]) * float64(b.N)
			b.ReportMetric(rows/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkIndex loads the index of a cache with a million flags and reports what it costs in memory.
func BenchmarkIndex(b *testing.B) {
	w := benchWriter(b)
	if _, err := w.Reconcile(b.Context(), change.Copy{At: 8, Exact: true, Reason: "benchmark", Teams: manyFlags(20_000, 50)}); err != nil {
		b.Fatal(err)
	}
	w.index = nil
	before := heap()
	for b.Loop() {
		w.index = nil
		if _, err := w.Acquire(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(heap()-before)/(1<<20), "MB")
	runtime.KeepAlive(w)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
