package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/browsertest"
	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/replication"
)

// auditedStates are the page in all that it can say.
func auditedStates(now time.Time) map[string]replication.Status {
	hour := now.Add(-time.Hour)
	long := strings.Repeat("an-error-without-any-space-in-it/", 12) + " and then 漢字, кириллица, עברית and ไทย " + strings.Repeat("words of it ", 30)
	leader := replication.Status{
		Role: replication.RoleLeader, Since: hour, Ready: true, SystemID: "7577341928830554147", Timeline: 1, Database: "posthog", Slot: "everflag", Publication: "everflag",
		Checkpoint: "1A3/1A606A8", Acknowledged: "1A3/1A606A8", WALEnd: "1A3/1A606B0", LagBytes: 8, LagSeconds: 0.0005, RetainedWAL: 3 << 20, CommitTime: hour,
		Verify:     &replication.VerifyReport{Finished: hour, Rows: 1234567},
		Reconciled: &replication.ReconcileReport{Reason: "the cache is empty", Finished: hour, Took: 113 * time.Millisecond, Teams: 5, TeamsWritten: 5},
	}
	redisAway := leader
	redisAway.Ready, redisAway.LagSeconds, redisAway.LagBytes, redisAway.RetainedWAL, redisAway.Released = false, 4000, 3<<30, 900<<20, true
	redisAway.CacheError, redisAway.Database, redisAway.Slot = "dial tcp 10.0.0.7:6379: connect: connection refused", strings.Repeat("long_database_name", 4), strings.Repeat("slot_", 13)
	redisAway.Verify = &replication.VerifyReport{Finished: hour, Rows: 61, Error: long}
	redisAway.LastError, redisAway.ErrorSince = long, hour
	drift := leader
	drift.Verify = &replication.VerifyReport{Finished: hour, Rows: 61, Drift: 2, Repaired: true}
	drift.Reconcile = &replication.ReconcileStatus{Reason: "verify found drift", Since: now.Add(-3 * time.Second), Stage: "waiting", Waiting: "process 7 of user posthog (" + long + ")"}
	filling := leader
	filling.Ready, filling.Reconciled, filling.Verify, filling.CommitTime = false, nil, nil, time.Time{}
	filling.Reconcile = &replication.ReconcileStatus{
		Reason: "the cache is empty", Since: hour, Stage: "copying", Rows: 40_000, RowsTotal: 1_000_000, Teams: 317, ProvisionalSince: hour,
	}
	return map[string]replication.Status{
		"streaming": leader, "redis-away": redisAway, "drift": drift, "reconciling": filling,
		"standing-by": {Role: replication.RoleStandby, Since: hour, Ready: true, Detail: "The slot is in use by process 77.", Slot: "everflag", Publication: "everflag", Checkpoint: "1A3/1A606A8"},
		"postgres-away": {
			Role: replication.RoleConnecting, Since: hour, LastError: "dial tcp 10.0.0.8:5432: connect: connection refused", ErrorSince: hour, LagSeconds: -1, Slot: "everflag", Publication: "everflag",
		},
	}
}

// TestPagesAudited looks at the page in every state, in light and dark, on a desktop and a phone.
func TestPagesAudited(t *testing.T) {
	t.Parallel()
	b := browsertest.New(t)
	now := time.Now()
	for name, status := range auditedStates(now) {
		board := newTestBoard(t, status)
		for second := range 600 { // the last of which are as the status says
			past := status
			if second < 500 {
				past.Role, past.Ready, past.CacheError = replication.RoleLeader, second/50 != 3, ""
				past.LagSeconds, past.RetainedWAL = float64(second%60)/1000, int64(second)<<18
				past.Checkpoint = change.LSN(0x1A300000000 + second*(second%97)*500).String()
			}
			board.history.note(past, now.Add(time.Duration(second-600)*time.Second))
		}
		if name != "standing-by" && name != "postgres-away" {
			board.feed.applied(change.Batch{Txs: []*change.Tx{
				tx(1, "new-checkout"), tx(2, "k1", "k2", "k3", "k4", "k5", "k6", "k7"), tx(123456789, strings.Repeat("long-key-", 30)), tx(3, "ключ", "旗", "دليل"),
				{Reconcile: "TRUNCATE of posthog_cohort", CommitTime: start},
			}}, start.Add(4*time.Millisecond))
		}
		mux := http.NewServeMux()
		for pattern, handler := range board.with(map[string]http.Handler{}) {
			mux.Handle(pattern, handler)
		}
		server := httptest.NewServer(mux)
		b.Open(t, browsertest.Desktop, server.URL)
		b.Audit(t, "replicator-"+name)
		b.Open(t, browsertest.Desktop, "about:blank") // which asks nobody, when the server is gone
		server.Close()
	}
}
