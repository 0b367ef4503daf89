package replication

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// atLeast waits for a gauge.
func (b *bench) atLeast(gauge prometheus.Gauge, want float64) {
	b.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(gauge)
	b.eventually(func() error {
		families, err := registry.Gather()
		if err != nil {
			return err
		}
		if got := families[0].GetMetric()[0].GetGauge().GetValue(); got < want {
			return fmt.Errorf("%s is %g, want %g", families[0].GetName(), got, want)
		}
		return nil
	})
}

// F59, F67: what the slot costs the server's disk and its catalog is measured.
func TestSlotMetrics(t *testing.T) {
	t.Parallel()
	b, _ := own(t, map[string]string{"logical_decoding_work_mem": "64kB"})
	r := b.start()
	b.equal()
	b.exec("INSERT INTO posthog_cohort (team_id, filters) SELECT 1, to_jsonb(repeat(md5(i::text), 20)) FROM generate_series(1, 2000) i")
	b.equal()
	b.atLeast(r.metrics.spilled, 500_000)
	b.sink.hook(func(string) (bool, error) { return false, errFake })
	for range 200 {
		b.exec("UPDATE posthog_featureflag SET active = NOT active WHERE id = 1")
	}
	b.atLeast(r.metrics.xminAge, 200)
	b.sink.hook(nil)
	b.equal()
}
