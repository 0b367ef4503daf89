package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/everflag/everflag/internal/testenv"
)

// G5, F22: Postgres shuts down at once, whatever the replicator does at that moment.
func TestPostgresStopsInEveryState(t *testing.T) {
	t.Parallel()
	killed := func(s *stopScene) {
		s.replicates()
		s.rd.Kill(s.t)
		s.change()
		s.knowsRedisIsAway()
	}
	for name, test := range map[string]struct {
		conf    map[string]string
		prepare func(s *stopScene)
		mend    func(s *stopScene) // before the cache can be equal
	}{
		"streaming": {prepare: func(s *stopScene) { s.replicates(); s.change() }},
		"acknowledgements are delayed": {prepare: func(s *stopScene) {
			s.env = append(s.env, "REPLICATOR_ACK_DELAY=1h")
			s.replicates()
			s.change()
		}},
		"Redis away":                        {prepare: killed, mend: func(s *stopScene) { s.rd.Start(s.t) }},
		"Redis frozen, not yet noticed":     {prepare: func(s *stopScene) { s.replicates(); s.rd.Freeze(s.t); s.change() }, mend: func(s *stopScene) { s.rd.Thaw(s.t) }},
		"a stand-by, too":                   {prepare: func(s *stopScene) { s.replicates(); s.replicator().is("standby"); s.change() }},
		"two, and Redis away":               {prepare: func(s *stopScene) { killed(s); s.replicator().is("standby") }, mend: func(s *stopScene) { s.rd.Start(s.t) }},
		"a copy that is written":            {prepare: (*stopScene).copies, mend: func(s *stopScene) { s.wire.Restore() }},
		"the slot waits for a transaction":  {prepare: func(s *stopScene) { s.opens("BEGIN"); s.replicator(); s.fillsProvisionally() }},
		"the slot waits for a prepared one": {prepare: func(s *stopScene) { s.opens("PREPARE TRANSACTION 'old'"); s.replicator(); s.fillsProvisionally() }, mend: (*stopScene).commitPrepared},
		"a copy waits for a transaction":    {prepare: func(s *stopScene) { s.replicates(); s.opens("BEGIN"); s.emptied() }},
		"a copy waits for a prepared one":   {prepare: func(s *stopScene) { s.replicates(); s.opens("PREPARE TRANSACTION 'old'"); s.emptied() }, mend: (*stopScene).commitPrepared},
		"a copy waits for a hanging commit": {prepare: func(s *stopScene) { s.replicates(); s.hangs(); s.emptied() }, mend: func(s *stopScene) {
			s.pg.SetConf(s.t, map[string]string{"synchronous_standby_names": ""})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pg, rd := testenv.PostgresServer(t, testenv.PGOptions{Conf: map[string]string{"max_prepared_transactions": "5"}}), testenv.RedisServer(t, testenv.RedisOptions{Process: true})
			s := &stopScene{scene: newScene(t, pg.Database(t), rd.URL, rd.Client(t)), pg: pg, rd: rd, wire: testenv.Proxy(t, rd.Addr)}
			s.redis = s.wire.URL(rd.URL)
			s.env = []string{"REPLICATOR_PROVISIONAL_AFTER=300ms"}
			test.prepare(s)
			s.hangUp()
			began := time.Now()
			pg.Stop(t, "fast")
			took := time.Since(began)
			t.Logf("stopped in %v", took.Round(time.Millisecond))
			if took > 2*time.Second {
				t.Errorf("Postgres took %v to shut down", took)
			}
			pg.Start(t)
			if test.mend != nil {
				test.mend(s)
			}
			s.arrives()
		})
	}
}

// stopScene is a scene whose Postgres is going to be stopped.
type stopScene struct {
	*scene
	pg   *testenv.PGServer
	rd   *testenv.RedisInstance
	wire *testenv.Flaky
	r    *replicator
}

func (s *stopScene) replicates() {
	s.r = s.replicator()
	s.waitEqual()
}

func (s *stopScene) change() {
	s.exec("UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-0'")
}

func (s *stopScene) knowsRedisIsAway() {
	testenv.Eventually(s.t, settle, func() error {
		if s.r.status().CacheError == "" {
			return errors.New("nobody knows that Redis is away")
		}
		return nil
	})
}

// opens leaves a transaction open, or prepared.
func (s *stopScene) opens(how string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.postgres)
	if err == nil {
		s.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(s.t.Context())) }) // the server ended it
		_, err = conn.Exec(s.t.Context(), strings.TrimSuffix("BEGIN; UPDATE posthog_featureflag SET name = 'late' WHERE key = 'flag-1'; "+how, "BEGIN"))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stopScene) commitPrepared() { s.exec("COMMIT PREPARED 'old'") }

// hangs leaves a commit waiting for a standby that does not exist. What the test itself commits does not wait.
func (s *stopScene) hangs() {
	s.t.Helper()
	s.pg.SetConf(s.t, map[string]string{"synchronous_standby_names": "absent"})
	conn, err := pgx.Connect(s.t.Context(), s.postgres)
	if err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_, _ = conn.Exec(context.WithoutCancel(s.t.Context()), "UPDATE posthog_featureflag SET name = 'hangs' WHERE key = 'flag-1'") // the server's end ends it
		close(ended)
	}()
	s.t.Cleanup(func() { <-ended; _ = conn.Close(context.WithoutCancel(s.t.Context())) })
	testenv.Eventually(s.t, settle, func() error {
		if value[int](s.scene, "SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == 0 {
			return errors.New("no commit hangs")
		}
		return nil
	})
}

// emptied empties the cache under the replicator, so that it has to wait for a copy and fills the cache provisionally meanwhile.
func (s *stopScene) emptied() {
	s.t.Helper()
	if err := s.cache.FlushAll(s.t.Context()).Err(); err != nil {
		s.t.Fatal(err)
	}
	s.fillsProvisionally()
}

func (s *stopScene) fillsProvisionally() {
	s.t.Helper()
	testenv.Eventually(s.t, settle, func() error {
		if meta := s.cache.HGetAll(s.t.Context(), "{everflag}:meta").Val(); meta["reconcile"] == "" {
			return fmt.Errorf("nothing waits: %v", meta)
		}
		if s.cache.HLen(s.t.Context(), "{everflag}:teams").Val() != teams {
			return errors.New("the cache is not filled")
		}
		return nil
	})
}

// copies stalls the way to Redis in the middle of a reconcile.
func (s *stopScene) copies() {
	s.t.Helper()
	const many = 4000
	s.wire.Delay(10 * time.Millisecond) // of every round trip, so that the copy takes a while
	s.exec("INSERT INTO posthog_team SELECT r.* FROM posthog_team t, generate_series(1, $1) i, "+
		"jsonb_populate_record(t, jsonb_build_object('id', 1000 + i, 'uuid', gen_random_uuid(), 'api_token', 'phc_more_' || i)) r WHERE t.id = 1", many)
	s.replicator()
	testenv.Eventually(s.t, settle, func() error {
		if n := s.cache.HLen(s.t.Context(), "{everflag}:teams").Val(); n == 0 {
			return fmt.Errorf("%d teams are copied", n)
		}
		return nil
	})
	s.wire.Stall()
	if n := s.cache.HLen(s.t.Context(), "{everflag}:teams").Val(); n >= many {
		s.t.Errorf("all of %d teams are copied already", n)
	}
}
