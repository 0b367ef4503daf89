package faults

import (
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// G6, F21: the leader reaches Postgres and not Redis, the stand-by both. The stand-by takes over, and keeps the lead; where nobody could write, nobody does.
func TestLeaderCutOffFromRedis(t *testing.T) {
	t.Parallel()
	s, _, rd := plain(t, testenv.PGOptions{}, testenv.RedisOptions{})
	s.env = []string{"REPLICATOR_TAKEOVER_AFTER=1s"} // six times as long, if it is not frozen
	wire := testenv.Proxy(t, rd.Addr)
	first := s.replicator("REPLICATOR_REDIS_URL=" + wire.URL(s.redis))
	first.is("leader")
	s.waitEqual()
	second := s.replicator()
	second.is("standby")
	d, l := s.decide(), s.load()
	l.more(20)
	wire.Cut()
	l.more(20)
	second.is("leader")
	first.is("standby")
	l.stop()
	s.waitEqual()
	wire.Restore()

	maxMemory := func(bytes string) {
		t.Helper()
		if err := rd.Client(t).ConfigSet(t.Context(), "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	maxMemory("1") // it answers, and refuses what is written, whoever writes
	pass(t, 9*time.Second)
	maxMemory("0")
	s.arrives()
	d.noticedNothing(s)
	second.is("leader")
	for name, r := range map[string]*replicator{"first": first, "second": second} {
		if n, want := len(r.said("taking the slot over")), map[string]int{"first": 0, "second": 1}[name]; n != want {
			t.Errorf("the %s took over %d times, want %d", name, n, want)
		}
	}
	if n := second.reconciles(); n > 0 {
		t.Errorf("%d reconciles: the cache has lost nothing", n)
	}
}
