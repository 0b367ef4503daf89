package replication

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/change"
)

// A verify finds what differs, repairs it, and is not misled by changes on their way.
func TestVerify(t *testing.T) { // F38
	t.Parallel()
	b := small(t)
	r := b.start()
	b.equal()
	stop := make(chan struct{})
	conn, writing := b.db.Conn(t), make(chan struct{})
	go func() {
		defer close(writing)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := conn.Exec(context.Background(), "UPDATE posthog_featureflag SET name = $1 WHERE id = 2", fmt.Sprint(i)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	if report, err := r.Verify(t.Context(), true); err != nil || report.Drift != 0 {
		t.Errorf("verify under load: %+v, %v", report, err)
	}
	close(stop)
	<-writing
	b.equal()
	b.sink.edit(func(c *fakeCache) { delete(c.teams[1], "flag:1"); c.teams[77] = map[string]fakeRecord{"flag:9": {}} })
	report, err := r.Verify(t.Context(), false)
	if err != nil || report.Drift != 2 || report.Repaired || report.Looks < 2 {
		t.Errorf("verify: %+v, %v", report, err)
	}
	alone, err := Verify(t.Context(), b.cfg, b.sink, b.log)
	if err != nil || alone.Drift != 2 {
		t.Errorf("verify without leadership: %+v, %v", alone, err)
	}
	report, err = r.Verify(t.Context(), true)
	if err != nil || report.Drift != 2 || !report.Repaired {
		t.Errorf("verify with repair: %+v, %v", report, err)
	}
	b.equal()
	if report, err := r.Verify(t.Context(), false); err != nil || report.Drift != 0 || report.Looks != 1 {
		t.Errorf("verify afterwards: %+v, %v", report, err)
	}
	rebuilt, err := r.Rebuild(t.Context())
	if err != nil || rebuilt.TeamsWritten != 0 || rebuilt.Teams != 2 {
		t.Errorf("rebuild: %+v, %v", rebuilt, err)
	}
}

// The log of a quiet server may end in a record that nobody flushes: a verify that found drift does not wait for it to be sent.
func TestVerifyBehindUnflushedLog(t *testing.T) {
	t.Parallel()
	b, _ := own(t, nil)
	r := b.start()
	b.equal()
	b.sink.edit(func(c *fakeCache) { delete(c.teams[1], "flag:1") })
	b.exec("BEGIN; SELECT pg_logical_emit_message(false, 'everflag', 'aborted'); ROLLBACK")
	ctx, cancel := context.WithTimeout(t.Context(), patience/2)
	defer cancel()
	if report, err := r.Verify(ctx, false); err != nil || report.Drift != 1 {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// The end of a snapshot does not wait for a synchronous standby, also if its transaction has written to the log (F1).
func TestSnapshotEndsWithoutStandby(t *testing.T) {
	t.Parallel()
	b, server := own(t, nil)
	conn := b.db.Conn(t)
	server.SetConf(t, map[string]string{"synchronous_standby_names": "absent"})
	ctx, cancel := context.WithTimeout(t.Context(), patience/2)
	defer cancel()
	if _, err := conn.Exec(ctx, beginSnapshot+"; SELECT pg_logical_emit_message(false, 'everflag', 'written')"); err != nil {
		t.Fatal(err)
	}
	if err := passable(ctx, conn); err != nil {
		t.Error(err)
	}
}

// A server that restarted may have been restored from a disk snapshot: streaming goes on, and a verify with repair follows, again until one completes.
func TestVerifyAfterRestartOfServer(t *testing.T) {
	t.Parallel()
	b := small(t)
	r := b.start()
	b.equal()
	r.stop()
	b.sink.edit(func(c *fakeCache) {
		c.position.Source.PostmasterStart = c.position.Source.PostmasterStart.Add(-time.Hour)
		delete(c.teams[1], "flag:1")
	})
	failures := 0
	b.sink.hook(func(op string) (bool, error) {
		if op == "compare" && failures < 2 {
			failures++
			return false, errFake
		}
		return true, nil
	})
	r = b.start()
	b.historyHas("verify found drift")
	b.equal()
	b.eventually(func() error {
		if v := r.Status().Verify; v == nil || !v.Repaired {
			return fmt.Errorf("status says %+v", v)
		}
		return nil
	})
}

// A row that is written all the time differs at every look, and is no drift: what was on its way then has come, and something else is on its way.
func TestVerifyHotRows(t *testing.T) {
	t.Parallel()
	hot, damaged := change.Difference{Team: 1, Entity: "flag", Key: "1"}, change.Difference{Team: 2, Entity: "flag", Key: "2", State: 7}
	suspects := []change.Difference{hot, damaged}
	for look := range uint64(3) {
		hot.State = 10 + look
		suspects = stillDiffering(suspects, []change.Difference{hot, damaged})
	}
	if len(suspects) != 1 || suspects[0] != damaged {
		t.Errorf("drift: %v, want %v", suspects, damaged)
	}
}
