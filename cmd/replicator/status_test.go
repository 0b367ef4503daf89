package main

import (
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
	"github.com/everflag/everflag/replication"
)

// TestStatusText pins what status prints, from health to the states in which somebody needs it. EVERFLAG_UPDATE=1 writes it anew.
func TestStatusText(t *testing.T) {
	t.Parallel()
	ago := func(d time.Duration) time.Time { return start.Add(-d) }
	leader := replication.Status{
		Role: replication.RoleLeader, Since: ago(90 * time.Minute), Ready: true, SystemID: "771", Timeline: 1, Database: "posthog", Slot: "everflag", Publication: "everflag",
		Checkpoint: "0/1A606A8", Acknowledged: "0/1A606A8", WALEnd: "0/1A606B0", LagBytes: 8, LagSeconds: 0.0005, RetainedWAL: 3 << 20,
		Verify:     &replication.VerifyReport{Finished: ago(12 * time.Minute), Rows: 12061},
		Reconciled: &replication.ReconcileReport{Reason: "the cache is empty", Finished: ago(90 * time.Minute), Took: 113 * time.Millisecond, Teams: 5, TeamsWritten: 5},
	}
	drifted := leader
	drifted.Verify = &replication.VerifyReport{Finished: ago(time.Second), Rows: 12061, Drift: 1}
	drifted.LastError, drifted.ErrorSince = "receiving: unexpected EOF", ago(2*time.Second)
	unverified := leader
	unverified.Verify = &replication.VerifyReport{Finished: ago(time.Second), Error: "reading the tables: canceled"}
	away := leader
	away.Ready, away.Released, away.CacheError, away.LagSeconds, away.LagBytes = false, true, "dial tcp 10.0.0.7:6379: connect: connection refused", 184.2, 800<<20
	copying := leader
	copying.Ready, copying.LagSeconds = false, -1
	copying.Reconcile = &replication.ReconcileStatus{Reason: "TRUNCATE of posthog_cohort", Since: ago(4 * time.Second), Stage: "copying", Rows: 40, RowsTotal: 100, Teams: 3}
	waiting := copying
	waiting.Reconcile = &replication.ReconcileStatus{
		Reason: "the cache is empty", Since: ago(70 * time.Second), Stage: "waiting", Waiting: "transaction 4711 of process 99", ProvisionalSince: ago(time.Minute),
	}
	standby := replication.Status{Role: replication.RoleStandby, Since: ago(3 * 24 * time.Hour), Ready: true, Detail: "slot \"everflag\" is in use by process 77", Slot: "everflag", Publication: "everflag"}
	lost := replication.Status{
		Role: replication.RoleConnecting, Since: ago(time.Minute), LastError: "dial tcp 10.0.0.5:5432: i/o timeout", ErrorSince: ago(time.Minute), LagSeconds: -1, Slot: "everflag", Publication: "everflag",
	}
	var text strings.Builder
	for _, status := range []replication.Status{leader, drifted, unverified, away, copying, waiting, standby, lost} {
		if err := printStatus(&text, status, start); err != nil {
			t.Fatal(err)
		}
		text.WriteString("----\n")
	}
	testenv.Golden(t, "testdata/status.golden", text.String())
}
