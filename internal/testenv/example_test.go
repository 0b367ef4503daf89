package testenv_test

import (
	"context"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// The example of the package comment, with a few lines of SQL and Redis in the place of the replicator.
func TestExample(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	testenv.LoadSchema(t, pg, testenv.Schema2026)
	testenv.AddTeam(t, pg, 1, nil)
	rd := testenv.Redis(t)

	network := testenv.Proxy(t, rd.Addr)
	through := testenv.KeySpace{URL: network.URL(rd.URL), Prefix: rd.Prefix}
	client := through.Client(t)

	network.Stall()
	id := testenv.AddFlag(t, pg, 1, "new-checkout", `{"groups":[{"rollout_percentage":50}]}`, nil)
	key := testenv.Value[string](t, pg, "SELECT key FROM posthog_featureflag WHERE id = $1", id)
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		done <- client.Set(ctx, rd.Prefix+":"+key, id, 0).Err()
	}()
	network.Restore()
	testenv.Eventually(t, 5*time.Second, func() error { return rd.Client(t).Get(t.Context(), rd.Prefix+":new-checkout").Err() })
	want(t, "writing through the proxy", <-done)
}
