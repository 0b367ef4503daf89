package replication

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// own is a bench on a server that the test may hurt.
func own(t *testing.T, conf map[string]string) (*bench, *testenv.PGServer) {
	t.Helper()
	server := testenv.PostgresServer(t, testenv.PGOptions{Conf: conf})
	return newBench(t, server.Database(t), smallSchema), server
}

// F1, F77: commits that wait for a synchronous standby are in the log and in no ordinary snapshot. They arrive exactly once, and a copy waits for them.
func TestHangingCommits(t *testing.T) {
	t.Parallel()
	b, server := own(t, nil)
	b.cfg.ProvisionalAfter = 200 * time.Millisecond
	server.SetConf(t, map[string]string{"synchronous_standby_names": "absent"})
	hanging := b.db.Conn(t)
	committed := make(chan error, 1)
	go func() {
		_, err := hanging.Exec(context.Background(), "INSERT INTO posthog_cohort (team_id, name) VALUES (1, 'hangs')")
		committed <- err
	}()
	b.eventually(func() error {
		if testenv.Value[int](t, b.db, "SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == 0 {
			return errors.New("no commit hangs")
		}
		return nil
	})
	b.exec("SET synchronous_commit = local")
	b.cfg.NoSetup = true // the creation of the publication would hang, too
	for _, sql := range publicationSQL(b.cfg.Publication, publicationState{}, b.catalog()) {
		b.exec(sql)
	}
	r := b.start()
	b.historyHas("provisional") // the first copy cannot be read yet
	b.eventually(func() error {
		if s := r.Status().Reconcile; s == nil || !strings.Contains(s.Waiting, "SyncRep") {
			return fmt.Errorf("status says %+v", s)
		}
		return nil
	})
	if p := b.sink.position(); p.Complete || p.Checkpoint != 0 {
		t.Errorf("a provisional fill made the cache complete: %+v", p)
	}
	server.SetConf(t, map[string]string{"synchronous_standby_names": ""})
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	b.equal()
}

// A table goes between the look at the catalog and the statement that publishes it: a first start waits for what comes after the migration.
func TestTableGoesBeforeItIsPublished(t *testing.T) {
	t.Parallel()
	b := small(t)
	b.exec("BEGIN; DROP TABLE posthog_experiment") // which others still see
	conn := b.db.Conn(t)
	failed := make(chan error, 1)
	go func() {
		_, err := ensurePublication(context.Background(), conn, b.version(), &b.cfg)
		failed <- err
	}()
	b.eventually(func() error {
		if testenv.Value[int](t, b.db, "SELECT count(*)::int FROM pg_locks WHERE pid = $1 AND NOT granted", conn.PgConn().PID()) == 0 {
			return errors.New("nobody waits for the table")
		}
		return nil
	})
	b.exec("COMMIT")
	if err := <-failed; !hasState(err, stateUndefinedTable) || Permanent(err) {
		t.Errorf("got %v (permanent: %v), want the server's error, and that it passes", err, Permanent(err))
	}
	if changed, err := ensurePublication(context.Background(), conn, b.version(), &b.cfg); !changed || err != nil {
		t.Errorf("afterwards: changed %v, %v", changed, err)
	}
}

func (b *bench) catalog() *catalog {
	b.t.Helper()
	c, err := readCatalog(context.Background(), b.conn, b.version(), b.cfg.Schema, b.cfg.Publication)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// F26: a transaction that is open anywhere holds the creation of the slot up. The cache is filled meanwhile, and the status says what is waited for.
func TestLongTransactionDuringCreation(t *testing.T) {
	t.Parallel()
	b, _ := own(t, map[string]string{"max_prepared_transactions": "5"})
	b.cfg.ProvisionalAfter = 200 * time.Millisecond
	long := b.db.Conn(t)
	if _, err := long.Exec(context.Background(), "BEGIN; INSERT INTO posthog_cohort (team_id, name) VALUES (1, 'late'); PREPARE TRANSACTION 'forgotten'"); err != nil {
		t.Fatal(err)
	}
	r := b.start()
	b.historyHas("provisional")
	b.eventually(func() error {
		if s := r.Status().Reconcile; s == nil || !strings.Contains(s.Waiting, "prepared transaction in database "+b.db.Name) {
			return fmt.Errorf("status says %+v", s)
		}
		return nil
	})
	b.eventually(b.difference)
	if b.sink.position().Complete {
		t.Error("the cache counts as complete")
	}
	b.exec("COMMIT PREPARED 'forgotten'") // F62
	b.equal()
}

// A rebuild beside a long transaction does not hold the stream up for long.
func TestLongTransactionDuringRebuild(t *testing.T) {
	t.Parallel()
	b, _ := own(t, nil)
	r := b.start()
	b.equal()
	long := b.db.Conn(t)
	if _, err := long.Exec(context.Background(), "BEGIN; INSERT INTO posthog_cohort (team_id, name) VALUES (1, 'late')"); err != nil {
		t.Fatal(err)
	}
	rebuilt := make(chan error, 1)
	go func() {
		_, err := r.Rebuild(context.Background())
		rebuilt <- err
	}()
	b.historyHas("rebuild")
	b.exec("UPDATE posthog_featureflag SET name = 'meanwhile'")
	b.eventually(b.difference)
	if _, err := long.Exec(context.Background(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-rebuilt; err != nil {
		t.Fatal(err)
	}
	b.equal()
}

// A rebuild that is asked for while a reconcile is due is that reconcile. With a mark of its own the cache would not be complete when the answer is there.
func TestRebuildJoinsAReconcile(t *testing.T) {
	t.Parallel()
	b, _ := own(t, nil)
	r := b.start()
	b.equal()
	copies := b.sink.count("exact")
	long := b.db.Conn(t)
	if _, err := long.Exec(context.Background(), "BEGIN; INSERT INTO posthog_cohort (team_id, name) VALUES (1, 'late')"); err != nil {
		t.Fatal(err)
	}
	b.exec("TRUNCATE posthog_experiment")
	b.historyHas("TRUNCATE")
	rebuilt := make(chan error, 1)
	go func() {
		_, err := r.Rebuild(context.Background())
		rebuilt <- err
	}()
	b.beats(2)
	if _, err := long.Exec(context.Background(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-rebuilt; err != nil {
		t.Fatal(err)
	}
	b.beats(2)
	if text := strings.Join(b.sink.history(), "; "); strings.Contains(text, "rebuild") {
		t.Errorf("the history is %s", text)
	}
	if again := b.sink.count("exact") - copies; again != 1 {
		t.Errorf("%d copies, want 1", again)
	}
	b.equal()
}

// beats waits for n more of the leader's heartbeats.
func (b *bench) beats(n int) {
	b.t.Helper()
	beats := func() int { return b.sink.count("beat") + b.sink.count("fresh") }
	want := beats() + n
	b.eventually(func() error {
		if got := beats(); got < want {
			return fmt.Errorf("%d beats, want %d", got, want)
		}
		return nil
	})
}

// F18: a cache that stands still does not cost the connection; F22: nor does it keep the server from stopping.
func TestSlowCacheAndShutdown(t *testing.T) {
	t.Parallel()
	b, server := own(t, map[string]string{"wal_sender_timeout": "1s"})
	b.start()
	b.equal()
	pid := b.walsender()
	b.sink.hook(func(string) (bool, error) { return false, errFake })
	b.exec("UPDATE posthog_featureflag SET name = 'waits'")
	b.pass(2500 * time.Millisecond)
	if now := testenv.Value[int](t, b.db, "SELECT coalesce(active_pid, 0) FROM pg_replication_slots"); now != pid {
		t.Errorf("the walsender was %d and is %d", pid, now)
	}
	began := time.Now()
	server.Stop(t, "fast")
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("the server took %s to stop while the cache was away", took)
	}
	b.sink.hook(nil)
	server.Start(t)
	b.conn = b.db.Conn(t)
	b.equal()
	began = time.Now()
	server.Stop(t, "fast")
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the server took %s to stop", took)
	}
	server.Start(t)
	b.conn = b.db.Conn(t)
	b.exec("UPDATE posthog_featureflag SET name = 'again'")
	b.equal()
}

// F8: a crash of the server takes positions back that it had not written; nothing comes twice, nothing is lost.
func TestServerCrash(t *testing.T) {
	t.Parallel()
	b, server := own(t, nil)
	b.start()
	b.equal()
	for i := range 3 {
		b.exec(fmt.Sprintf("UPDATE posthog_featureflag SET name = 'before crash %d'", i))
		b.eventually(b.difference)
		server.Kill(t)
		server.Start(t)
		b.conn = b.db.Conn(t)
		b.exec("INSERT INTO posthog_cohort (team_id, name) VALUES (2, 'after crash')")
		b.equal()
	}
}

// F79: never a synchronous standby.
func TestSynchronousStandbyIsRefused(t *testing.T) {
	t.Parallel()
	b, server := own(t, nil)
	r := b.start()
	b.equal()
	server.SetConf(t, map[string]string{"synchronous_standby_names": "*"})
	if err := r.wait(); err == nil || !strings.Contains(err.Error(), "synchronous_standby_names") {
		t.Errorf("Run returned %v", err)
	}
	if err := b.start().wait(); err == nil || !strings.Contains(err.Error(), "name the real standbys") {
		t.Errorf("Run returned %v", err)
	}
	server.SetConf(t, map[string]string{"synchronous_standby_names": ""})
	b.start()
	b.exec("UPDATE posthog_featureflag SET name = 'again'")
	b.equal()
}

// F63: a slot that the server gave up is replaced, and the cache reconciled in place.
func TestLostSlot(t *testing.T) {
	t.Parallel()
	b, _ := own(t, map[string]string{"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"})
	r := b.start()
	b.equal()
	r.stop()
	b.exec("CREATE TABLE noise (x text)")
	for range 4 {
		b.exec("INSERT INTO noise SELECT repeat(md5(i::text), 100) FROM generate_series(1, 6000) i")
		b.exec("SELECT pg_switch_wal()")
		b.exec("CHECKPOINT")
	}
	if status := testenv.Value[string](t, b.db, "SELECT wal_status FROM pg_replication_slots"); status != "lost" {
		t.Fatalf("the slot is %s", status)
	}
	b.exec("UPDATE posthog_featureflag SET name = 'unseen'")
	b.start()
	b.historyHas("slot is lost")
	b.equal()
}

// Copies under a load of small commits damage no row of the source and miss none (F77). With EVERFLAG_LARGE there are enough of them to damage some rows if
// they were read too early.
func TestCopiesUnderLoad(t *testing.T) {
	t.Parallel()
	b, _ := own(t, map[string]string{"synchronous_commit": "off"})
	b.exec("INSERT INTO posthog_cohort (team_id, count) SELECT 1, 0 FROM generate_series(1, 20)")
	r := b.start()
	b.equal()
	stop := make(chan struct{})
	written := make(chan int)
	for w := range 2 {
		conn := b.db.Conn(t)
		go func() {
			n := 0
			for ; ; n++ {
				select {
				case <-stop:
					written <- n
					return
				default:
				}
				sql := fmt.Sprintf("UPDATE posthog_cohort SET count = count + 1, name = '%d' WHERE id %% 2 = %d", n, w)
				if _, err := conn.Exec(context.Background(), sql); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	copies := 15
	if os.Getenv("EVERFLAG_LARGE") != "" {
		copies = 160
	}
	for range copies {
		// A copy for which the stream was held back too long does not wait for it (copying.overdue): then it is ahead of the cache and no drift.
		if report, err := r.Rebuild(t.Context()); err != nil || report.TeamsWritten != 0 && report.Took < holdMin {
			t.Errorf("rebuild under load: %+v, %v", report, err)
		}
	}
	close(stop)
	want := 10 * (<-written + <-written)
	b.equal()
	if got := testenv.Value[int](t, b.db, "SELECT sum(count)::int FROM posthog_cohort"); got != want {
		t.Errorf("the source counts %d updates, %d were made", got, want)
	}
	if n := testenv.Value[int](t, b.db, "SELECT count(*)::int FROM posthog_cohort"); n != 20 {
		t.Errorf("the source has %d rows", n)
	}
	t.Logf("%d copies, %d updates", copies, want)
}

// F24, G7: servers that cannot be reached yet are waited for with one line of warning.
func TestUnreachableServer(t *testing.T) {
	t.Parallel()
	b, server := own(t, nil)
	server.Stop(t, "fast")
	r := b.start()
	b.eventually(func() error {
		if r.Status().LastError == "" {
			return errors.New("no attempt yet")
		}
		return nil
	})
	server.Start(t)
	b.conn = b.db.Conn(t)
	b.equal()
	refused := 0
	for _, e := range b.logs.FilterMessage("no session, trying again").All() {
		if text, _ := e.ContextMap()["error"].(string); strings.Contains(text, "refused") {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d lines about the same failure", refused)
	}
	for _, e := range b.logs.All() {
		if strings.Contains(fmt.Sprint(e.ContextMap()), "phs_one") {
			t.Errorf("a secret is logged: %s", e.Message)
		}
	}
}

// Both generations of PostHog's schema, other schemas, quoted names and partitions (F54, F55).
func TestSchemas(t *testing.T) {
	t.Parallel()
	for _, version := range []testenv.SchemaVersion{testenv.Schema2023, testenv.Schema2026} {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			db := testenv.Postgres(t)
			testenv.LoadSchema(t, db, version)
			testenv.LoadSeed(t, db, version)
			b := newBench(t, db, "")
			r := b.start()
			b.equal()
			b.exec("UPDATE posthog_featureflag SET name = name || '!'")
			b.exec("UPDATE posthog_team SET timezone = 'Europe/Berlin'")
			b.equal()
			if report, err := r.Rebuild(t.Context()); err != nil || report.TeamsWritten != 0 || report.Rows == 0 {
				t.Errorf("rebuild: %+v, %v", report, err)
			}
		})
	}
	t.Run("partitions in a quoted schema", func(t *testing.T) {
		t.Parallel()
		db := testenv.Postgres(t)
		b := newBench(t, db, `CREATE SCHEMA "My ""Flags"""; SET search_path = "My ""Flags"""; `+strings.Split(smallSchema, "INSERT INTO")[0]+`
			DROP TABLE posthog_cohort;
			CREATE TABLE posthog_cohort (id serial, team_id integer, name text, PRIMARY KEY (id, team_id)) PARTITION BY RANGE (team_id);
			CREATE TABLE low PARTITION OF posthog_cohort FOR VALUES FROM (0) TO (10); CREATE TABLE high PARTITION OF posthog_cohort DEFAULT;
			CREATE TABLE public.posthog_cohort (id serial PRIMARY KEY, team_id integer)`)
		b.cfg.Schema = `My "Flags"`
		b.cfg.Publication = `Pub "1", 'x'`
		b.exec(`SET search_path = "My ""Flags"""`)
		b.exec("INSERT INTO posthog_cohort (team_id) VALUES (1), (20)")
		b.start()
		b.equal()
		b.exec("UPDATE posthog_cohort SET name = 'named'")
		b.exec("UPDATE posthog_cohort SET team_id = 30 WHERE team_id = 1")
		b.exec("INSERT INTO public.posthog_cohort (team_id) VALUES (5)")
		b.equal()
		b.exec("TRUNCATE high") // not in the stream: the watch sees it
		b.equal()
	})
}
