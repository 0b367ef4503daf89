package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// TestLargeTransactions wants transactions of 64 MiB and of a million rows (a tenth of that without EVERFLAG_LARGE) to end in an exact cache, in memory
// that depends neither on the transaction nor on the tables (F39, F57).
func TestLargeTransactions(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	teams := 2_000
	if large() {
		teams = 20_000
	}
	const perTeam = 50
	w := &world{pg: testenv.PostgresServer(t, testenv.PGOptions{Conf: map[string]string{"max_wal_size": "4GB"}}).Database(t)}
	cache := testenv.RedisServer(t, testenv.RedisOptions{})
	w.redis = &testenv.KeySpace{URL: cache.URL, Prefix: "everflag", Addr: cache.Addr}
	w.slot, w.db, w.cache = "large", w.pg.Conn(t), cache.Client(t)
	testenv.LoadSchema(t, w.pg, testenv.Schema2026)
	testenv.AddTeam(t, w.pg, 1, nil)
	flag := testenv.AddFlag(t, w.pg, 1, "template", `{"groups":[{"rollout_percentage":50}]}`, testenv.Columns{"name": fmt.Sprintf("%100d", 1)})
	w.exec(t, "SET session_replication_role = replica") // foreign keys would take most of the time
	w.exec(t, `INSERT INTO posthog_team SELECT r.* FROM posthog_team t, generate_series(2, $1::int) i, LATERAL jsonb_populate_record(t, jsonb_build_object(
		'id', i, 'uuid', gen_random_uuid(), 'api_token', 'phc_' || i)) r WHERE t.id = 1`, teams)
	w.exec(t, `INSERT INTO posthog_featureflag SELECT r.* FROM posthog_featureflag f, generate_series($2::int + 1, $1::int) i,
		LATERAL jsonb_populate_record(f, jsonb_build_object('id', i, 'key', 'flag-' || i, 'team_id', i % $3::int + 1)) r WHERE f.id = $2`, teams*perTeam, flag, teams)

	r := w.run(t, "REPLICATOR_VERIFY_EVERY=0", "REPLICATOR_LOG_FORMAT=json")
	w.waitLargeEqual(t)
	first := r.memory(t, "VmHWM")
	idle := r.memory(t, "VmRSS")

	receiving, reconciling := w.bigTransaction(t, r, fmt.Sprint(teams*perTeam, " rows"), "UPDATE posthog_featureflag SET version = version + 1")
	receivingBytes, reconcilingBytes := w.bigTransaction(t, r, "80 MiB of filters", `UPDATE posthog_featureflag SET filters = jsonb_build_object('groups', '[]'::jsonb, 'noise',
		(SELECT string_agg(md5(random()::text || i || key), '') FROM generate_series(1, 640) i)) WHERE id <= 4096`)

	t.Logf("resident MB: first reconcile %.0f, idle after it %.0f", first, idle)
	for name, c := range map[string]struct{ got, want float64 }{
		"idle":                        {idle, 100},
		"reconciling":                 {max(first, reconciling, reconcilingBytes), 200},
		"receiving many rows":         {receiving, 150},
		"receiving 64 MiB of filters": {receivingBytes, 150},
	} {
		if c.got > c.want {
			t.Errorf("%s: %.0f MB resident, want at most %.0f", name, c.got, c.want)
		}
	}
}

// bigTransaction returns the largest resident sets while the transaction was received, and until the cache was equal.
func (w *world) bigTransaction(t *testing.T, r *runner, name, sql string) (receiving, reconciling float64) {
	t.Helper()
	r.forgetPeak(t)
	before, err := r.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	w.exec(t, sql)
	committed := time.Now()
	testenv.Eventually(t, largeSettle, func() error { // a transaction of this size is not applied row by row
		s, err := r.status(t.Context())
		if err == nil && s.Reconcile == nil && s.Reconciled.At == before.Reconciled.At {
			err = fmt.Errorf("no reconcile yet")
		}
		return err
	})
	receiving = r.memory(t, "VmHWM")
	received := time.Now()
	r.forgetPeak(t)
	testenv.Eventually(t, largeSettle, func() error {
		s, err := r.status(t.Context())
		if err == nil && (s.Reconcile != nil || s.Reconciled.At == before.Reconciled.At) {
			err = fmt.Errorf("not reconciled: %+v", s.Reconcile)
		}
		return err
	})
	took := time.Since(received)
	reconciling = r.memory(t, "VmHWM")
	w.waitLargeEqual(t)
	t.Logf("%s: executed in %s, received %s after the commit, reconciled in %s; resident MB receiving %.0f, reconciling %.0f", name,
		committed.Sub(began).Round(time.Millisecond), received.Sub(committed).Round(time.Millisecond), took.Round(time.Millisecond), receiving, reconciling)
	return receiving, reconciling
}

const largeSettle = 3 * time.Minute

// waitLargeEqual looks seldom: a look takes long.
func (w *world) waitLargeEqual(t *testing.T) {
	t.Helper()
	next := time.Now()
	testenv.Eventually(t, largeSettle, func() error {
		if time.Now().Before(next) {
			return fmt.Errorf("not looked yet")
		}
		complete, err := w.cache.HGet(t.Context(), "{"+w.redis.Prefix+"}:meta", "complete").Result()
		if err == nil && complete == "1" {
			err = w.equal(t.Context())
		}
		if err == nil && complete != "1" {
			err = fmt.Errorf("complete is %q", complete)
		}
		next = time.Now().Add(500 * time.Millisecond)
		return err
	})
}
