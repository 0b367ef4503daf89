package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
	"github.com/everflag/everflag/replication"
)

// newOwnWorld is a world on a Postgres that the test may configure.
func newOwnWorld(t *testing.T) (*world, *testenv.PGServer) {
	t.Helper()
	server := testenv.PostgresServer(t, testenv.PGOptions{Process: true}) // whose processes the test may stop, too: those of a container have other ids
	w := &world{pg: server.Database(t), redis: testenv.Redis(t)}
	w.slot = "slot_" + strings.ToLower(w.redis.Prefix[max(0, len(w.redis.Prefix)-30):])
	w.db, w.cache = w.pg.Conn(t), w.redis.Client(t)
	testenv.LoadSchema(t, w.pg, testenv.Schema2026)
	return w, server
}

// team is the cache's record of a team by field.
func (w *world) team(ctx context.Context, id int) (map[string]string, error) {
	return w.cache.HGetAll(ctx, fmt.Sprintf("{%s}:team:%d", w.redis.Prefix, id)).Result()
}

// has reports whether the cache's team mentions the text.
func (w *world) has(ctx context.Context, id int, text string) error {
	record, err := w.team(ctx, id)
	if err == nil && !strings.Contains(fmt.Sprint(record), text) {
		err = fmt.Errorf("team %d does not have %q: %v", id, text, record)
	}
	return err
}

// watchTeam calls check with every state of the team that can be seen, until stop.
func (w *world) watchTeam(t *testing.T, id int, check func(map[string]string) error) (stop func() int) {
	t.Helper()
	client := w.redis.Client(t)
	var watching sync.WaitGroup
	done, seen := make(chan struct{}), 0
	watching.Go(func() {
		for ; ; seen++ {
			select {
			case <-done:
				return
			default:
			}
			record, err := client.HGetAll(context.Background(), fmt.Sprintf("{%s}:team:%d", w.redis.Prefix, id)).Result()
			if err == nil {
				err = check(record)
			}
			if err != nil {
				t.Errorf("team %d, look %d: %v", id, seen, err)
				return
			}
		}
	})
	stop = sync.OnceValue(func() int {
		close(done)
		watching.Wait()
		return seen
	})
	t.Cleanup(func() { stop() })
	return stop
}

// TestStandbyAway commits while the synchronous standby is away (F1): the commit hangs, and is in the log and in no ordinary snapshot. The cache gets it from
// the stream, and neither a restart nor a reconcile takes it back; a reconcile waits, and does not keep other changes waiting.
func TestStandbyAway(t *testing.T) { // F61
	t.Parallel()
	w, server := newOwnWorld(t)
	testenv.AddTeam(t, w.pg, 1, nil)
	testenv.AddFlag(t, w.pg, 1, "counter", `{}`, nil)
	r := w.run(t)
	w.waitEqual(t)
	server.SetConf(t, map[string]string{"synchronous_standby_names": "absent"})
	testenv.Eventually(t, settle, func() error {
		if got := testenv.Value[string](t, w.pg, "SHOW synchronous_standby_names"); got != "absent" {
			return fmt.Errorf("synchronous_standby_names is %q", got)
		}
		return nil
	})
	w.exec(t, "CHECKPOINT") // the checkpointer passes the setting on
	hanging, committed := w.pg.Conn(t), make(chan error, 1)
	go func() {
		_, err := hanging.Exec(context.Background(), "UPDATE posthog_team SET name = 'hangs'")
		committed <- err
	}()
	testenv.Eventually(t, settle, func() error { return w.has(t.Context(), 1, `"name":"hangs"`) })
	w.exec(t, "SET synchronous_commit = local")
	stop := w.watchTeam(t, 1, func(record map[string]string) error {
		if !strings.Contains(record["team"], `"name":"hangs"`) {
			return errors.New("the commit that hangs is taken back")
		}
		return nil
	})

	r.Kill(t)
	r = w.run(t)
	r.waitRole(t, replication.RoleLeader)
	w.count(t, 0)

	rebuilt := make(chan error, 1)
	go func() {
		_, err := r.rebuild(t.Context())
		rebuilt <- err
	}()
	testenv.Eventually(t, settle, func() error {
		s, err := r.status(t.Context())
		if err == nil && (s.Reconcile == nil || !strings.Contains(s.Reconcile.Waiting, "SyncRep")) {
			err = fmt.Errorf("status says %+v", s.Reconcile)
		}
		return err
	})
	for i := range 15 {
		w.count(t, 1+i)
	}
	select {
	case err := <-rebuilt:
		t.Errorf("the reconcile did not wait: %v", err)
	case err := <-committed:
		t.Fatalf("the commit did not hang: %v", err)
	default:
	}
	server.SetConf(t, map[string]string{"synchronous_standby_names": ""})
	if err := errors.Join(<-committed, <-rebuilt); err != nil {
		t.Fatal(err)
	}
	w.waitEqual(t)
	t.Logf("%d looks", stop())
}

// count commits a change, which has to be in the cache within some seconds.
func (w *world) count(t *testing.T, n int) {
	t.Helper()
	w.exec(t, "UPDATE posthog_featureflag SET name = $1", fmt.Sprint("count-", n))
	testenv.Eventually(t, 5*time.Second, func() error { return w.has(t.Context(), 1, fmt.Sprintf(`"count-%d"`, n)) })
	w.exec(t, "SELECT pg_sleep(0.5)") // spreads the changes over several attempts of a copy
}

// TestMigrations runs what Django's migrations consist of, with a short lock_timeout, while the replicator streams and copies (F44, F45, F78): none fails,
// and the cache follows.
func TestMigrations(t *testing.T) {
	t.Parallel()
	w, _ := newOwnWorld(t)
	for team := 1; team <= 10; team++ {
		testenv.AddTeam(t, w.pg, team, nil)
		testenv.AddFlag(t, w.pg, team, "flag", `{"groups":[{"rollout_percentage":50}]}`, nil)
	}
	w.exec(t, `INSERT INTO posthog_cohort SELECT r.* FROM generate_series(1, 5000) i, LATERAL jsonb_populate_record(NULL::posthog_cohort, jsonb_build_object(
		'id', i, 'team_id', i % 10 + 1, 'name', i::text, 'description', '', 'deleted', false, 'is_calculating', false, 'errors_calculating', 0, 'is_static', false,
		'groups', '[]'::jsonb, 'filters', jsonb_build_object('noise', repeat(md5(i::text), 20)))) r`)
	r := w.run(t, "REPLICATOR_CATALOG_EVERY=500ms")
	w.waitEqual(t)
	for i, c := range []struct{ name, sql string }{
		{"add", `ALTER TABLE posthog_featureflag ADD COLUMN everflag_new boolean DEFAULT true NOT NULL;
			ALTER TABLE posthog_featureflag ALTER COLUMN everflag_new DROP DEFAULT`},
		{"add a served column", `ALTER TABLE posthog_cohort DROP COLUMN is_static CASCADE`},
		{"drop", `ALTER TABLE posthog_featureflag DROP COLUMN everflag_new CASCADE`},
		{"add it again", `ALTER TABLE posthog_cohort ADD COLUMN is_static boolean DEFAULT true NOT NULL`},
		{"widen", `ALTER TABLE posthog_featureflag ALTER COLUMN key TYPE varchar(600) USING key::varchar(600)`},
		{"rewrite", `ALTER TABLE posthog_cohort ALTER COLUMN name TYPE text USING upper(name || '!')`},
		{"rename a served column", `ALTER TABLE posthog_cohort RENAME COLUMN description TO summary`},
		{"rename back and forth", `ALTER TABLE posthog_featureflag RENAME COLUMN rollout_percentage TO rollout;
			ALTER TABLE posthog_featureflag RENAME COLUMN rollout TO rollout_percentage`},
	} {
		copying := make(chan error, 1)
		go func() {
			var err error
			if i%2 == 0 { // the others have to be noticed without
				_, err = r.rebuild(t.Context())
			}
			copying <- err
		}()
		w.exec(t, "BEGIN; SET LOCAL lock_timeout = '2s'; "+c.sql+"; COMMIT")
		w.exec(t, "UPDATE posthog_featureflag SET name = $1", c.name)
		w.waitEqual(t)
		if err := <-copying; err != nil {
			t.Errorf("%s: the rebuild: %v", c.name, err)
		}
	}
	w.waitEqual(t)
}
