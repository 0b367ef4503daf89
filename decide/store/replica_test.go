package store

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/everflag/everflag/internal/testenv"
)

// S8: decide reads a replica, and a slow one: every answer takes 400 ms, and the first one, on a new connection, more than a poll may take. Nothing is given up for that,
// neither at the start nor afterwards, and what the primary is told is followed.
func TestSlowReplica(t *testing.T) {
	t.Parallel()
	primary := testenv.RedisServer(t, testenv.RedisOptions{Process: true}) // which a replica reaches under the same address as we do
	replica := primary.Replica(t, testenv.RedisOptions{})
	wire := testenv.Proxy(t, replica.Addr)
	wire.Delay(200 * time.Millisecond)
	b := setupAt(t, primary.Client(t), wire.URL(replica.URL), "test", nil)
	b.w.fill("one", definition{id: 1, mark: "a", flags: 3}, definition{id: 2, mark: "b"})
	stop := b.w.beating()
	defer stop()
	b.start(t)
	b.wants(t, 10*time.Second, map[string]string{"phc_1": "a", "phc_2": "b", "phc_9": "absent"})
	for _, mark := range []string{"c", "d", "e"} {
		b.w.put(definition{id: 1, mark: mark, flags: 2})
		b.wants(t, 3*time.Second, map[string]string{"phc_1": mark, "phc_2": "b", "phc_9": "absent"})
	}
	if n := testutil.ToFloat64(b.metrics.errors); n != 0 {
		t.Errorf("%v errors", n)
	}
}
