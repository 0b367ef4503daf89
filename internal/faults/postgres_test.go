package faults

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
	"github.com/everflag/everflag/internal/testenv/server"
)

// F8, F20, F22: Postgres is restarted in every way, under load; the slot continues, nothing is reconciled. A fast shutdown takes less than 2 s.
func TestPostgresRestarts(t *testing.T) {
	t.Parallel()
	s, pg, _ := plain(t, testenv.PGOptions{}, testenv.RedisOptions{})
	r := s.replicator()
	s.waitEqual()
	d, l := s.decide(), s.load()
	for _, how := range []string{"fast", "immediate", "kill -9"} {
		l.more(50)
		began := time.Now()
		if how == "kill -9" {
			pg.Kill(t)
		} else {
			pg.Stop(t, server.StopMode(how))
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: Postgres took %v to end", how, took)
		}
		pg.Start(t)
	}
	l.more(50)
	l.stop()
	s.waitEqual()
	d.noticedNothing(s)
	if r.reconciles() != 1 {
		t.Errorf("%d reconciles, want only the first:\n%s", r.reconciles(), strings.Join(r.said("reconcil"), "\n"))
	}
}

// F24, F33, F64, F66: the primary dies with commits that its standby never got, but the cache did. The standby is promoted; the replicator finds it by itself
// and takes back what is not true any more.
func TestFailoverToStandby(t *testing.T) {
	t.Parallel()
	s, primary, _ := plain(t, testenv.PGOptions{Process: true}, testenv.RedisOptions{})
	wire := testenv.Proxy(t, primary.Addr)
	host, port, err := net.SplitHostPort(wire.Addr)
	if err != nil {
		t.Fatal(err)
	}
	standby := primary.Standby(t, testenv.PGOptions{Conf: map[string]string{
		"primary_conninfo": fmt.Sprintf("host=%s port=%s user=%s password=%s", host, port, server.User, server.Password),
	}})
	s.postgres = strings.Replace(s.postgres, primary.Addr, primary.Addr+","+standby.Addr, 1) + "&target_session_attrs=read-write"
	r := s.replicator()
	s.waitEqual()
	d, l := s.decide(), s.load()
	l.more(50)
	testenv.Eventually(t, settle, func() error { // the tables, at least, are there
		if replayed := value[string](s, "SELECT coalesce(min(replay_lsn), '0/0')::text FROM pg_stat_replication WHERE application_name <> 'everflag'"); replayed == "0/0" {
			return errors.New("the standby has replayed nothing")
		}
		return nil
	})
	wire.Cut()
	l.more(30)
	s.exec("UPDATE posthog_featureflag SET name = 'never replicated' WHERE key = 'steady'")
	l.stop()
	s.waitEqual()
	primary.Kill(t)
	s.hangUp()
	standby.Promote(t)
	s.waitEqual()
	if name := value[string](s, "SELECT name FROM posthog_featureflag WHERE key = 'steady'"); name != "" {
		t.Errorf("the standby has %q: nothing was lost, so nothing is shown", name)
	}
	if len(r.said(`"reconciled"`, "slot is missing")) == 0 && len(r.said(`"reconciled"`, "timeline")) == 0 {
		t.Errorf("no reconcile names the failover:\n%s", strings.Join(r.said("reconcil"), "\n"))
	}
	l = s.load()
	l.more(30)
	l.stop()
	s.waitEqual()
	d.noticedNothing(s)
}

// F65: from Postgres 17 on the slot can survive the promotion; the cache is reconciled all the same, since the timeline is another.
func TestFailoverSlot(t *testing.T) {
	t.Parallel()
	s, primary, _ := plain(t, testenv.PGOptions{Process: true, Version: "17"}, testenv.RedisOptions{})
	standby := primary.Standby(t, testenv.PGOptions{Conf: map[string]string{"sync_replication_slots": "on"}})
	s.postgres = strings.Replace(s.postgres, primary.Addr, primary.Addr+","+standby.Addr, 1) + "&target_session_attrs=read-write"
	r := s.replicator()
	s.waitEqual()
	l := s.load()
	other := &scene{t: t, postgres: standby.URL("postgres")}
	t.Cleanup(other.hangUp)
	testenv.Eventually(t, 2*settle, func() error {
		value[string](s, "SELECT pg_log_standby_snapshot()::text") // by such a record the slot's catalog_xmin comes to where the standby's is; else it is logged every 15 s
		if !value[bool](other, "SELECT count(*) = 1 FROM pg_replication_slots WHERE slot_name = 'everflag' AND synced AND NOT temporary") {
			return errors.New("the slot is not synchronized")
		}
		return nil
	})
	l.more(30)
	l.stop()
	s.waitEqual()
	primary.Kill(t)
	s.hangUp()
	standby.Promote(t)
	r.reconciledFor("timeline")
	s.arrives()
	if created := len(r.said("replication slot created")); created != 1 {
		t.Errorf("the slot was created %d times, want once: it survives", created)
	}
}

// F3, F10, F66: the source is what it was some time ago: the cache is ahead of it and has to follow it back.
func TestSourceGoesBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reason   string
		old      func(t *testing.T, pg *testenv.PGServer) string // a copy of the data directory as it is now
		recovery string
	}{
		"volume snapshot":        {"beyond the end of the log", coldCopy, ""},
		"base backup, no slots":  {"slot is missing", func(t *testing.T, pg *testenv.PGServer) string { return pg.BaseBackup(t) }, ""},
		"point in time recovery": {"", func(t *testing.T, pg *testenv.PGServer) string { return pg.BaseBackup(t) }, "restore_command = 'false'\nrecovery_target_action = 'promote'\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pg, _ := plain(t, testenv.PGOptions{Process: true}, testenv.RedisOptions{})
			r := s.replicator()
			s.waitEqual()
			s.waitConfirmed()
			d := s.decide()
			old := test.old(t, pg)
			l := s.load()
			l.more(100)
			l.stop()
			testenv.AddFlag(t, s.source, 1, "of-a-lost-future", "{}", nil)
			s.waitEqual()
			s.waitConfirmed()
			before := r.reconciles()
			pg.Stop(t, "fast")
			swap(t, pg.DataDir, old, test.recovery)
			pg.Start(t)
			testenv.Eventually(t, settle, func() error {
				if r.reconciles() == before {
					return errors.New("no reconcile")
				}
				return nil
			})
			s.waitEqual()
			s.arrives()
			d.noticedNothing(s)
			// The restart for the copy is followed by a verify; a marker that it left behind goes before the other reasons.
			last := strings.Join(r.said(`"reconciled"`)[before:], "\n")
			if !strings.Contains(last, test.reason) && !strings.Contains(last, "verify") {
				t.Errorf("no reconcile names %q:\n%s", test.reason, last)
			}
		})
	}
}

// coldCopy is what a snapshot of a volume is: slots included.
func coldCopy(t *testing.T, pg *testenv.PGServer) string {
	t.Helper()
	target := pg.DataDir + ".old"
	pg.Stop(t, "fast")
	copyOwned(t, pg.DataDir, target)
	pg.Start(t)
	return target
}

// swap puts another data directory in the place of a stopped server's.
func swap(t *testing.T, current, old, recovery string) {
	t.Helper()
	if recovery != "" {
		conf, err := os.OpenFile(filepath.Join(old, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conf.WriteString(recovery); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(conf.Close(), os.WriteFile(filepath.Join(old, "recovery.signal"), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Rename(current, current+".lost"), os.Rename(old, current)); err != nil {
		t.Fatal(err)
	}
}

// F27: a password is changed while the replicator works and its connections are cut; the file that holds its address, or that of passwords which the
// address names, is read again.
func TestRotatedPassword(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{false, true} {
		t.Run(fmt.Sprintf("whole address %t", whole), func(t *testing.T) { t.Parallel(); rotatePassword(t, whole) })
	}
}

func rotatePassword(t *testing.T, whole bool) {
	t.Helper()
	s, _, _ := plain(t, testenv.PGOptions{}, testenv.RedisOptions{})
	s.exec("CREATE ROLE rotating SUPERUSER LOGIN PASSWORD 'first'")
	u, err := url.Parse(s.postgres)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "secret")
	u.User = url.User("rotating")
	setting := "REPLICATOR_POSTGRES_URL=" + u.String() + "&passfile=" + url.QueryEscape(file)
	if whole {
		setting = "REPLICATOR_POSTGRES_URL_FILE=" + file
	}
	write := func(password string) {
		content := "*:*:*:rotating:" + password
		if whole {
			u.User = url.UserPassword("rotating", password)
			content = u.String()
		}
		if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	r := s.replicator(setting)
	s.waitEqual()
	d := s.decide()
	s.exec("ALTER ROLE rotating PASSWORD 'second'")
	s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotating'")
	testenv.Eventually(t, settle, func() error {
		if st := r.status(); !strings.Contains(st.LastError, "password") {
			return fmt.Errorf("the last error is %q", st.LastError)
		}
		return nil
	})
	s.exec("UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-0'")
	write("second")
	s.waitEqual()
	d.noticedNothing(s)
	if r.reconciles() != 1 {
		t.Errorf("%d reconciles, want only the first", r.reconciles())
	}
	for _, line := range r.Logs() {
		if strings.Contains(line, "first") || strings.Contains(line, "second") {
			t.Errorf("a password is logged: %s", line)
		}
	}
}

// F12, F48, F63, F64, F16: what people and tools do to the connection, the slot and the publication while the replicator works, under load.
func TestHarmUnderLoad(t *testing.T) {
	t.Parallel()
	s, _, _ := plain(t, testenv.PGOptions{}, testenv.RedisOptions{})
	r := s.replicator()
	s.waitEqual()
	d, l := s.decide(), s.load()
	l.more(30)
	for range 5 {
		s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'everflag'")
		l.more(10)
	}
	testenv.Eventually(t, settle, func() error {
		if st := r.status(); !st.Ready {
			return fmt.Errorf("not ready: %+v", st)
		}
		return nil
	})
	if r.reconciles() != 1 {
		t.Errorf("%d reconciles after connections were ended, want only the first", r.reconciles())
	}
	s.exec(`DO $$ BEGIN
		WHILE EXISTS (SELECT 1 FROM pg_replication_slots WHERE slot_name = 'everflag') LOOP
			PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'everflag';
			BEGIN
				PERFORM pg_drop_replication_slot('everflag');
			EXCEPTION WHEN object_in_use THEN NULL;
			END;
		END LOOP; END $$`)
	r.reconciledFor("")
	l.more(30)
	testenv.Eventually(t, settle, func() error {
		if len(r.said(`"reconciled"`, "slot is missing")) == 0 {
			return errors.New("the lost slot is not noticed")
		}
		return nil
	})
	before := r.reconciles()
	s.exec("DROP PUBLICATION everflag")
	testenv.Eventually(t, settle, func() error {
		if r.reconciles() == before {
			return errors.New("the lost publication is not noticed")
		}
		return nil
	})
	l.more(30)
	l.stop()
	s.waitEqual()
	d.noticedNothing(s)
}
