package replication

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// G5: a migration that waits for a table that is being read comes first, whatever it is read for.
func TestCopyYieldsToMigrations(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		begin func(b *bench, r *running) // the reading, not the first one
		end   func(b *bench)             // what kept the cache from being equal
	}{
		"a first copy": {},
		"a verify": {begin: func(b *bench, r *running) {
			go func() { _, _ = r.Verify(b.t.Context(), false) }() // it breaks off
		}},
		"a provisional fill": {end: func(b *bench) { b.exec("COMMIT PREPARED 'yields'") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := own(t, map[string]string{"max_prepared_transactions": "5"})
			b.exec("INSERT INTO posthog_cohort (team_id, filters) SELECT i, to_jsonb(repeat(md5(i::text), 100)) FROM generate_series(1, 20000) i")
			if test.end != nil { // the slot waits for it
				b.cfg.ProvisionalAfter = 100 * time.Millisecond
				b.exec("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'yields'")
			}
			reading, slowly := make(chan struct{}), make(chan struct{})
			goOn := sync.OnceFunc(func() { close(slowly) })
			t.Cleanup(goOn)
			var armed atomic.Bool
			armed.Store(test.begin == nil)
			b.sink.onTeam = func(team int64) {
				if team == 1000 && armed.Load() {
					select {
					case reading <- struct{}{}:
						<-slowly
					default:
					}
				}
			}
			r := b.start()
			t.Cleanup(goOn) // before the replicator is told to stop
			if test.begin != nil {
				b.equal()
				armed.Store(true)
				test.begin(b, r)
			}
			select {
			case <-reading:
			case <-time.After(patience):
				t.Fatal("nothing is read")
			}
			began := time.Now()
			b.exec("SET lock_timeout = '5s'")
			b.exec("ALTER TABLE posthog_cohort ADD COLUMN query jsonb")
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("the migration took %s", took)
			}
			goOn()
			if test.end != nil {
				test.end(b)
			}
			b.equal()
		})
	}
}
