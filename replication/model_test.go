package replication

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// statement returns random SQL over the small schema. Keys are few, so that programs meet the same rows again.
func statement(r *rand.Rand) string {
	id, team := r.IntN(8), 1+r.IntN(3)
	switch r.IntN(18) {
	case 0:
		return fmt.Sprintf(`INSERT INTO posthog_featureflag (id, key, team_id, filters) VALUES (%d, 'k%d', %d, '{"x": "%s"}') ON CONFLICT (id) DO NOTHING`, id, id, team, random(20_000))
	case 1, 2:
		return fmt.Sprintf(`UPDATE posthog_featureflag SET active = NOT active WHERE id = %d`, id)
	case 3:
		return fmt.Sprintf(`UPDATE posthog_featureflag SET filters = '{"y": "%s"}', name = 'n' WHERE id = %d`, random(6000), id)
	case 4:
		return fmt.Sprintf(`UPDATE posthog_featureflag SET team_id = %d WHERE id = %d`, team, id)
	case 5:
		return fmt.Sprintf(`DELETE FROM posthog_featureflag WHERE id = %d`, id)
	case 6:
		return fmt.Sprintf(`UPDATE posthog_featureflag SET deleted = NOT deleted, key = key || 'x' WHERE id = %d`, id)
	case 7:
		return fmt.Sprintf(`UPDATE posthog_featureflag SET id = id + 100 WHERE id = %d AND NOT EXISTS (SELECT 1 FROM posthog_featureflag WHERE id = %d)`, id, id+100)
	case 8:
		return fmt.Sprintf(`INSERT INTO posthog_team (id, api_token) VALUES (%d, 'phc_%d') ON CONFLICT (id) DO UPDATE SET name = posthog_team.name || '.'`, team, team)
	case 9:
		return `UPDATE posthog_team SET api_token = api_token || '~'`
	case 10:
		return fmt.Sprintf(`DELETE FROM posthog_team WHERE id = %d`, team)
	case 11:
		return fmt.Sprintf(`INSERT INTO posthog_cohort (team_id, name, filters) SELECT %d, 'c', to_jsonb(repeat('z', 3000)) FROM generate_series(1, %d)`, team, 1+r.IntN(20))
	case 12:
		return `UPDATE posthog_cohort SET count = coalesce(count, 0) + 1, is_static = NOT is_static`
	case 13:
		return fmt.Sprintf(`DELETE FROM posthog_cohort WHERE id %% 3 = %d`, r.IntN(3))
	case 14:
		return fmt.Sprintf(`INSERT INTO posthog_experiment (feature_flag_id) SELECT id FROM posthog_featureflag WHERE id = %d`, id)
	case 15:
		return fmt.Sprintf(`UPDATE posthog_experiment SET deleted = NOT deleted WHERE feature_flag_id = %d`, id)
	case 16:
		if r.IntN(8) == 0 {
			return []string{
				`TRUNCATE posthog_cohort`, `ALTER TABLE posthog_featureflag ADD COLUMN IF NOT EXISTS version integer DEFAULT 4`,
				`ALTER TABLE posthog_featureflag DROP COLUMN IF EXISTS version CASCADE`, `VACUUM FULL posthog_cohort`,
			}[r.IntN(4)]
		}
	}
	return `UPDATE posthog_featureflag SET last_called_at = now()`
}

// program is a random transaction.
func program(r *rand.Rand) []string {
	sql := statement(r)
	if strings.HasPrefix(sql, "VACUUM") {
		return []string{sql}
	}
	statements := []string{"BEGIN", sql}
	for range r.IntN(5) {
		next := statement(r)
		if strings.HasPrefix(next, "VACUUM") {
			continue
		}
		if r.IntN(5) == 0 {
			statements = append(statements, "SAVEPOINT s", next, "ROLLBACK TO s")
			continue
		}
		statements = append(statements, next)
	}
	if r.IntN(8) == 0 {
		return append(statements, "ROLLBACK")
	}
	return append(statements, "COMMIT")
}

// G1: after any sequence of transactions, restarts, cut streams and failing writes the cache equals the tables, and never before is anything acknowledged
// that it does not hold.
func TestModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	b := small(t)
	b.cfg.MaxTxBytes = 20_000 + r.IntN(200_000)
	b.cfg.BatchTxs = 1 + r.IntN(20)
	b.neverAhead()
	run := b.start()
	rounds, perRound := 8, 15
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		var failures atomic.Int64
		b.sink.hook(func(string) (bool, error) {
			if n := failures.Add(1); n%7 == 3 && n < 60 {
				return n%2 == 0, errFake
			}
			return true, nil
		})
		for range perRound {
			for _, sql := range program(r) {
				if _, err := b.conn.Exec(context.Background(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
					t.Logf("%s: %v", shorten(sql), err)
					b.exec("ROLLBACK")
					break
				}
			}
		}
		switch r.IntN(4) {
		case 0:
			run.stop()
			run = b.start()
		case 1:
			b.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL", b.cfg.Slot)
		}
		b.equal()
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}
