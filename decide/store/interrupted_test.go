package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/testenv"
)

// G2, G8, S13, S17, S59: Redis goes away while all teams are read. What was not read then is read after its return, although neither owner nor epoch has changed
// since and the stream names none of it; until then nothing is called absent.
func TestComparisonIsInterrupted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		follows bool // an earlier reign, before that
		before  map[string]string
	}{
		"at the start":   {false, map[string]string{"phc_1": "unavailable", "phc_2": "unavailable", "phc_3": "unavailable", "phc_9": "unavailable"}},
		"in a new reign": {true, map[string]string{"phc_1": "a", "phc_2": "b", "phc_3": "unavailable", "phc_9": "unavailable"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, b := through(t)
			stop := b.w.beating()
			defer stop()
			if test.follows {
				b.w.fill("one", definition{id: 1, mark: "a"}, definition{id: 2, mark: "b"})
				b.start(t)
				b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_2": "b", "phc_9": "absent"})
				proxy.Cut()
			}
			b.w.fill("two", definition{id: 1, mark: "a2"}, definition{id: 3, mark: "c"})
			b.w.remove(2)
			b.w.client.Del(t.Context(), b.w.keys.Changes)

			interrupted := make(chan float64, 1) // the errors before
			b.cfg.Client.AddHook(&beforeBulk{meta: b.w.keys.Meta, do: func() {
				proxy.Cut()
				interrupted <- testutil.ToFloat64(b.metrics.errors)
			}})
			if test.follows {
				proxy.Restore()
			} else {
				b.start(t)
			}
			errors := <-interrupted
			testenv.Eventually(t, 3*time.Second, func() error {
				if n := testutil.ToFloat64(b.metrics.errors); n <= errors {
					return fmt.Errorf("still %v errors", n)
				}
				return b.has(test.before)
			})
			proxy.Restore()
			b.wants(t, 3*time.Second, map[string]string{"phc_1": "a2", "phc_2": "absent", "phc_3": "c", "phc_9": "absent"})
		})
	}
}

// A heartbeat that is still to come, by the clock of Redis, may be an old one from before that went back. It does not make absences certain, the next one does.
func TestHeartbeatOfAnotherClock(t *testing.T) {
	t.Parallel()
	future := time.Now().Add(time.Hour).UnixMilli()
	for name, next := range map[string]func(w *writer){
		"the clock went back": (*writer).beat,
		"a replica is late":   func(w *writer) { w.set(flagcache.MetaHeartbeat, future+1000) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			b.w.fill("one", definition{id: 1, mark: "a"})
			b.w.set(flagcache.MetaHeartbeat, future)
			b.start(t)
			testenv.Eventually(t, 3*time.Second, func() error {
				if c := b.condition.Load(); !c.certain {
					return fmt.Errorf("the view is not whole: %+v", c)
				}
				return b.has(map[string]string{"phc_1": "a", "phc_9": "unavailable"})
			})
			next(b.w)
			b.wants(t, 3*time.Second, map[string]string{"phc_9": "absent"})
		})
	}
}
