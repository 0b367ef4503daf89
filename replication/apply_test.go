package replication

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/change"
)

// A position that the server waits for stays urgent until it is written, also if a later one takes its place.
func TestUrgentPositionStaysUrgent(t *testing.T) {
	t.Parallel()
	l := &leader{checkpoint: 10, idle: item{position: 20, urgent: true}, hand: []item{{position: 30}}}
	l.batch()
	if l.idle.position != 30 || !l.idle.urgent {
		t.Errorf("waiting to be written: %+v, want position 30, urgent", l.idle)
	}
	l.hand, l.idle = []item{{position: 40}}, item{}
	l.batch()
	if l.idle.position != 40 || l.idle.urgent {
		t.Errorf("waiting to be written: %+v, want position 40, not urgent", l.idle)
	}
}

// G3: an idle checkpoint that failed is of no use any more once a later transaction is in the cache: tried again, it would take the checkpoint back.
func TestIdleCheckpointNeverGoesBack(t *testing.T) {
	t.Parallel()
	sink := newFakeSink(t, newFakeCache())
	sink.cache.position.Checkpoint = 90
	l := &leader{
		r: &Replicator{metrics: newMetrics(prometheus.NewRegistry(), new(atomic.Int64))}, cfg: &Config{}, log: zap.NewNop(), sink: sink, receiver: &receiver{},
		retryTimer: time.NewTimer(time.Hour), acquired: true, trusted: true, established: true, checkpoint: 90,
	}
	sink.hook(func(string) (bool, error) { return false, errFake })
	l.idle = item{position: 100}
	if err := l.idleCheckpoint(t.Context(), time.Now()); err != nil || !l.outage {
		t.Fatalf("outage %t, %v", l.outage, err)
	}
	sink.hook(nil)
	l.hand = []item{{tx: &change.Tx{CommitLSN: 110, EndLSN: 120}}}
	if err := l.recover(t.Context()); err != nil || l.checkpoint != 120 {
		t.Fatalf("checkpoint %s, %v", l.checkpoint, err)
	}
	l.idle = item{position: 130}
	if err := l.idleCheckpoint(t.Context(), time.Now().Add(time.Hour)); err != nil || l.checkpoint != 130 {
		t.Errorf("checkpoint %s, %v; want that of the idle position", l.checkpoint, err)
	}
}
