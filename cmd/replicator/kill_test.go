package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/everflag/everflag/internal/killpoint"
	"github.com/everflag/everflag/internal/testenv"
)

// TestKillAnywhere kills the replicator with SIGKILL at random points of a load of 10,000 transactions, starts it again, and wants the cache equal to the
// tables each time (G1, G3, G4; F2, F5, F6, F8, F69). Every round counts which stage the kill hit; all must occur.
func TestKillAnywhere(t *testing.T) {
	t.Parallel()
	rounds, transactions := 50, 200
	if testing.Short() {
		rounds = 10
	}
	w := newWorld(t)
	load := newLoad(t, w)
	deadly, clean := testenv.Build(t, "cmd/replicator", "killpoints"), testenv.Build(t, "cmd/replicator")
	stages := []string{killpoint.Read, killpoint.Apply, killpoint.Acknowledge, killpoint.Reconcile, "anywhere"}
	hit := map[string]int{}
	for round := range rounds {
		stage := stages[round%len(stages)]
		count := rand.IntN(12)
		if stage == killpoint.Acknowledge || stage == killpoint.Apply {
			count /= 3 // a batch of many transactions is applied and acknowledged once
		}
		doomed := testenv.Run(t, deadly, w.env(t, fmt.Sprintf("EVERFLAG_KILLPOINT=%s:%d", stage, count)))
		working := load.start(t, transactions, stage == killpoint.Reconcile && round > len(stages))
		if stage == "anywhere" {
			timer := time.NewTimer(time.Duration(rand.IntN(300)) * time.Millisecond)
			<-timer.C
			doomed.Kill(t)
		}
		working.Wait()
		select {
		case <-doomed.Ended():
			hit[stage]++
		case <-time.After(2 * time.Second): // the chosen point did not come often enough
			doomed.Kill(t)
			hit["idle"]++
		}
		restarted := testenv.Run(t, clean, w.env(t))
		restarted.WaitForLog(t, "replicator started") // before that, SIGTERM is not caught
		w.waitEqual(t)
		if round%2 == 0 {
			restarted.Kill(t)
			continue
		}
		restarted.Signal(t, syscall.SIGTERM)
		if code := restarted.Wait(t); code != 0 {
			t.Errorf("round %d: exit code %d after SIGTERM", round, code)
		}
	}
	t.Logf("%d rounds, %d transactions; kills by stage: %v", rounds, rounds*transactions, hit)
	for _, stage := range stages {
		if hit[stage] == 0 {
			t.Errorf("no kill hit the stage %q", stage)
		}
	}
}

// load changes flags of a few teams in transactions of every size.
type load struct {
	w   *world
	db  *pgx.Conn
	big string // filters that Postgres keeps out of line
}

const loadTeams, loadFlags = 5, 20

func newLoad(t *testing.T, w *world) *load {
	t.Helper()
	noise := make([]byte, 10_000)
	for i := range noise {
		noise[i] = "0123456789abcdef"[rand.IntN(16)]
	}
	for team := 1; team <= loadTeams; team++ {
		testenv.AddTeam(t, w.pg, team, nil)
	}
	for flag := range loadFlags {
		testenv.AddFlag(t, w.pg, 1+flag%loadTeams, fmt.Sprint("flag-", flag), `{"groups":[{"rollout_percentage":50}]}`, nil)
	}
	return &load{w: w, db: w.pg.Conn(t), big: fmt.Sprintf(`{"groups": [], "noise": %q}`, noise)}
}

// start runs the transactions in the background. With truncate, one of them empties a table, which ends in a reconcile.
func (l *load) start(t *testing.T, transactions int, truncate bool) *sync.WaitGroup {
	t.Helper()
	var working sync.WaitGroup
	working.Go(func() {
		for i := range transactions {
			if truncate && i == transactions/4 {
				if _, err := l.db.Exec(t.Context(), "TRUNCATE posthog_experiment"); err != nil {
					t.Errorf("load: %v", err)
				}
			}
			if err := l.transaction(t.Context()); err != nil {
				t.Errorf("load: %v", err)
				return
			}
		}
	})
	return &working
}

func (l *load) transaction(ctx context.Context) error {
	tx, err := l.db.Begin(ctx)
	if err != nil {
		return err
	}
	for range 1 + rand.IntN(3) {
		if err := l.change(ctx, tx); err != nil {
			return err
		}
	}
	if rand.IntN(20) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

func (l *load) change(ctx context.Context, tx pgx.Tx) error {
	key, team := fmt.Sprint("flag-", rand.IntN(loadFlags)), 1+rand.IntN(loadTeams)
	var err error
	switch rand.IntN(8) {
	case 0:
		_, err = tx.Exec(ctx, "UPDATE posthog_featureflag SET filters = $2 WHERE key = $1", key, l.big)
	case 1: // filters stay out of line and unsent
		_, err = tx.Exec(ctx, "UPDATE posthog_featureflag SET active = NOT active WHERE key = $1", key)
	case 2:
		_, err = tx.Exec(ctx, "UPDATE posthog_featureflag SET deleted = NOT deleted WHERE key = $1", key)
	case 3:
		_, err = tx.Exec(ctx, "UPDATE posthog_featureflag SET team_id = $2 WHERE key = $1", key, team)
	case 4:
		_, err = tx.Exec(ctx, "UPDATE posthog_team SET api_token = $2 WHERE id = $1", team, fmt.Sprintf("phc_%d_%d", team, rand.Int64()))
	case 5:
		_, err = tx.Exec(ctx, "UPDATE posthog_featureflag SET last_called_at = now() WHERE key = $1", key)
	default:
		_, err = tx.Exec(ctx, "UPDATE posthog_featureflag SET filters = $2, version = version + 1 WHERE key = $1", key,
			fmt.Sprintf(`{"groups": [{"rollout_percentage": %d}]}`, rand.IntN(101)))
	}
	return err
}
