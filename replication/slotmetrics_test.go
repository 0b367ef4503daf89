package replication

import (
	"fmt"
	"testing"
)

// metricAtLeast waits for a metric without labels.
func (b *bench) metricAtLeast(r *running, name string, want float64) {
	b.t.Helper()
	b.eventually(func() error {
		got, err := r.metric(name)
		if err == nil && got < want {
			err = fmt.Errorf("%s is %g, want %g", name, got, want)
		}
		return err
	})
}

// metric reads a counter or a gauge without labels.
func (r *running) metric(name string) (float64, error) {
	families, err := r.registry.Gather()
	if err != nil {
		return 0, err
	}
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue(), nil // one of the two
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}

// F59, F67: what the slot costs the server's disk and its catalog is measured.
func TestSlotMetrics(t *testing.T) {
	t.Parallel()
	b, _ := own(t, map[string]string{"logical_decoding_work_mem": "64kB"})
	r := b.start()
	b.equal()
	b.exec("INSERT INTO posthog_cohort (team_id, filters) SELECT 1, to_jsonb(repeat(md5(i::text), 20)) FROM generate_series(1, 2000) i")
	b.equal()
	b.metricAtLeast(r, "everflag_replicator_slot_spilled_bytes", 500_000)
	b.sink.hook(func(string) (bool, error) { return false, errFake })
	for range 200 {
		b.exec("UPDATE posthog_featureflag SET active = NOT active WHERE id = 1")
	}
	b.metricAtLeast(r, "everflag_replicator_slot_catalog_xmin_age", 200)
	b.sink.hook(nil)
	b.equal()
}

func TestReceivedBytesAreCounted(t *testing.T) {
	t.Parallel()
	b := small(t)
	r := b.start()
	b.equal()
	const received = "everflag_replicator_received_bytes_total"
	before, err := r.metric(received)
	if err != nil {
		t.Fatal(err)
	}
	b.exec("UPDATE posthog_featureflag SET name = repeat('x', 10000) WHERE id = 1")
	b.equal()
	b.metricAtLeast(r, received, before+10_000)
}
