package replication

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/everflag/everflag/internal/testenv"
)

// F68: time-outs that are set for the role or the database, all far shorter than a copy and than a pause of the stream, end neither. Those of 17 and 18 too.
func TestTimeoutsOfTheDatabase(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"", "18"} {
		t.Run("Postgres "+version, func(t *testing.T) {
			t.Parallel()
			server := testenv.PostgresServer(t, testenv.PGOptions{Version: version})
			b := newBench(t, server.Database(t), smallSchema)
			for _, name := range []string{"statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout"} {
				if testenv.Value[bool](t, b.db, "SELECT EXISTS (SELECT 1 FROM pg_settings WHERE name = $1)", name) {
					b.exec(fmt.Sprintf("ALTER DATABASE %s SET %s = '300ms'", b.db.Name, name))
				}
			}
			b.cfg.CatalogEvery = time.Second // the connection that looks at the catalog has nothing to do for longer than it may
			b.exec("INSERT INTO posthog_cohort (team_id, filters) SELECT i, to_jsonb(repeat(md5(i::text), 100)) FROM generate_series(1, 20000) i")
			b.sink.onTeam = func(team int64) {
				if team == 1000 { // most of the copy is still to come, more than the buffers on the way hold
					timer := time.NewTimer(1500 * time.Millisecond)
					<-timer.C
				}
			}
			r := b.start()
			b.settled()
			pid := b.walsender()
			b.pass(2500 * time.Millisecond)
			b.exec("UPDATE posthog_featureflag SET name = 'after a pause'")
			b.eventually(func() error { return b.teamHas(1, "after a pause") })
			if now := testenv.Value[int](t, b.db, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1", b.cfg.Slot); now != pid {
				t.Errorf("the walsender was %d and is %d: %s", pid, now, r.Status().LastError)
			}
			if n := b.sink.count("exact"); n != 1 {
				t.Errorf("%d copies, want one", n)
			}
			for _, e := range b.logs.All() {
				if strings.Contains(fmt.Sprint(e.Message, e.ContextMap()), "timeout") {
					t.Errorf("%s %v", e.Message, e.ContextMap())
				}
			}
		})
	}
}

// pass lets time pass, in which nothing must happen.
func (b *bench) pass(d time.Duration) {
	b.t.Helper()
	until := time.Now().Add(d)
	b.eventually(func() error {
		if time.Now().Before(until) {
			return errors.New("too early to tell")
		}
		return nil
	})
}

// teamHas is nil if a record of the team has the name.
func (b *bench) teamHas(team int64, name string) error {
	for _, r := range b.sink.snapshot()[team] {
		if r.values["name"] == "="+name {
			return nil
		}
	}
	return fmt.Errorf("team %d has no record of the name %q", team, name)
}

// F27: all of the server's walsenders are taken. That passes: it is waited for and said, and neither the first copy nor the stream is given up.
func TestExhaustedWalsenders(t *testing.T) {
	t.Parallel()
	b, _ := own(t, map[string]string{"max_wal_senders": "2"})
	var taken []*pgconn.PgConn
	for range 2 {
		conn, err := b.cfg.connectReplication(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeConn(conn) })
		taken = append(taken, conn)
	}
	r := b.start()
	b.eventually(func() error {
		if text := r.Status().LastError; !strings.Contains(text, "53300") {
			return fmt.Errorf("the last error is %q", text)
		}
		return nil
	})
	closeConn(taken[0]) // enough for the stream, one too few for a copy beside it
	b.eventually(func() error {
		if text := b.sink.position().Reconcile; text == "" || b.logs.FilterMessage("a reconcile did not complete, trying again").Len() == 0 {
			return fmt.Errorf("the copy has not been tried: marker %q", text)
		}
		return nil
	})
	closeConn(taken[1])
	b.equal()
	b.exec("UPDATE posthog_featureflag SET name = 'streamed'")
	b.equal()
}
