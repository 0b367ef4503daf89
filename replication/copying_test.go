package replication

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/testenv"
)

// A copy of an earlier position than what the cache shows, or than what was given back, is not used: it would go backwards or miss something (G3, G5).
func TestOvertakenCopyIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		with func(l *leader)
		kept bool
	}{
		"in time":                     {func(*leader) {}, true},
		"stream went on":              {func(l *leader) { l.checkpoint = 101 }, false},
		"not trusted, old checkpoint": {func(l *leader) { l.trusted, l.checkpoint = false, 101 }, true},
		"provisional fill is newer":   {func(l *leader) { l.fill = &filler{floor: 101} }, false},
		"an earlier copy broke off":   {func(l *leader) { l.floor = 101 }, false},
		"log was given back": {func(l *leader) {
			l.receiver.queue.discard()
			l.receiver.queue.push(item{position: 101})
		}, false},
	} {
		var received atomic.Int64
		cfg := Defaults()
		l := &leader{
			r: &Replicator{}, cfg: &cfg, log: zap.NewNop(), trusted: true, checkpoint: 90, alarm: time.NewTimer(time.Hour),
			receiver: newReceiver(newScriptedWAL(), &cfg, 50, time.Minute, &received),
			copying:  &copying{cancel: func() {}, held: true, ready: make(chan prepared, 1)},
		}
		test.with(l)
		l.copyConsistent(change.LSN(100))
		if kept := l.copying != nil; kept != test.kept {
			t.Errorf("%s: the copy is kept %t", name, kept)
		}
		if _, discarding := l.receiver.queue.lost(); discarding {
			t.Errorf("%s: what follows the point is thrown away", name)
		}
		if test.kept && (!l.copying.holds() || l.copying.consistentAt() != 100) {
			t.Errorf("%s: transactions behind the point are not held back", name)
		}
	}
}

// inTheMiddle fills the tables with more than the buffers on the way of a copy hold, and stops the first copy half-way until goOn.
func (b *bench) inTheMiddle() (copying <-chan struct{}, copies *atomic.Int64, goOn func()) {
	b.exec("INSERT INTO posthog_cohort (team_id, filters) SELECT i, to_jsonb(repeat(md5(i::text), 100)) FROM generate_series(1, 20000) i")
	began, halt := make(chan struct{}), make(chan struct{})
	goOn = sync.OnceFunc(func() { close(halt) })
	b.t.Cleanup(goOn)
	copies = &atomic.Int64{}
	b.sink.onTeam = func(team int64) {
		if team == 1000 && copies.Add(1) == 1 {
			close(began)
			<-halt
		}
	}
	return began, copies, goOn
}

// F68: the server ends a connection that copies, and no other one. Half a copy is no copy: it is made anew from the start.
func TestBrokenCopy(t *testing.T) {
	t.Parallel()
	b := small(t)
	copying, copies, goOn := b.inTheMiddle()
	b.start()
	<-copying
	if n := testenv.Value[int](t, b.db, `SELECT count(pg_terminate_backend(pid))::int FROM pg_stat_activity
		WHERE application_name = $1 AND query LIKE 'COPY%posthog_cohort%'`, b.cfg.ApplicationName); n != 1 {
		t.Fatalf("%d connections copy the table, want 1", n)
	}
	goOn()
	b.equal()
	if n := copies.Load(); n < 2 {
		t.Errorf("%d copies: the one that broke was used", n)
	}
}

// F68, F80: the server dies in the middle of a copy, and with it commits that it has confirmed and not written. Their transaction ids are given out again;
// the copy is made anew, of a snapshot of the server as it is now.
func TestServerCrashDuringCopy(t *testing.T) {
	t.Parallel()
	b, server := own(t, map[string]string{"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"})
	copying, copies, goOn := b.inTheMiddle()
	b.exec("CHECKPOINT")
	b.start()
	<-copying
	const next = "SELECT pg_current_xact_id()::text::bigint"
	for range 20 {
		b.exec("INSERT INTO posthog_cohort (team_id, name) VALUES (1, 'lost in the crash')")
	}
	before := testenv.Value[int64](t, b.db, next)
	server.Kill(t)
	goOn()
	server.Start(t)
	b.conn = b.db.Conn(t)
	if after := testenv.Value[int64](t, b.db, next); after >= before {
		t.Fatalf("transaction %d comes after %d: no id is given out again, so nothing is shown", after, before)
	}
	b.exec("SET synchronous_commit = on")
	b.exec("INSERT INTO posthog_cohort (team_id, name) VALUES (2, 'after the crash')")
	b.equal()
	if n := copies.Load(); n < 2 {
		t.Errorf("%d copies: the one that broke was used", n)
	}
}
