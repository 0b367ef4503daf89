package replication

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/everflag/everflag/internal/change"
)

// aDay is how long the outages of these tests last, by the clock of their bubble; handful is what the log may say of one.
const (
	aDay    = 24 * time.Hour
	handful = 20
)

// brokenPostgres is where a proxy listens whose server is gone: by turns it resets connections, closes them and says that the server is starting up.
func brokenPostgres(t *testing.T) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	starting, err := (&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			hello := make([]byte, 1024)
			_, _ = conn.Read(hello) // whatever it says
			switch n % 3 {
			case 0:
				_ = conn.(*net.TCPConn).SetLinger(0) // makes Close a reset
			case 1:
				_, _ = conn.Write(starting) // the client may be gone
			}
			_ = conn.Close() // that is all
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close() // ends the goroutine
		<-done
	})
	return listener.Addr().String()
}

// F75, F23: a day without Postgres is a handful of lines, though every attempt fails in other words: the errors name the ports of their connections.
func TestDayWithoutPostgres(t *testing.T) {
	t.Parallel()
	cfg := Defaults()
	cfg.PostgresURL = "postgres://everflag:secret@" + brokenPostgres(t) + "/posthog?sslmode=disable"
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		r, err := New(cfg, newFakeSink(t, newFakeCache()), zap.New(core), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), aDay)
		defer cancel()
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
		attempts := testutil.ToFloat64(r.metrics.sessions.WithLabelValues(endConnection))
		few(t, logs, attempts, 5000, 30_000)
	})
}

// few holds the log to a handful of lines, and the attempts to what neither gives up nor is a tight loop (F23).
func few(t *testing.T, logs *observer.ObservedLogs, attempts, atLeast, atMost float64) {
	t.Helper()
	t.Logf("%v attempts, %d lines", attempts, logs.Len())
	if attempts < atLeast || attempts > atMost {
		t.Errorf("%v attempts failed, want %v to %v", attempts, atLeast, atMost)
	}
	if n := logs.Len(); n == 0 || n > handful {
		var lines []string
		for _, entry := range logs.All()[:min(n, 2*handful)] {
			lines = append(lines, fmt.Sprint(entry.Message, " ", entry.ContextMap()))
		}
		t.Errorf("%d lines, want 1 to %d:\n%s", n, handful, strings.Join(lines, "\n"))
	}
}

// F75: so is a day without Redis, which the leader spends trying, and in which log is given back.
func TestDayWithoutRedis(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		cfg := Defaults()
		cfg.PostgresURL = "postgres://127.0.0.1/nobody-connects"
		sink := newFakeSink(t, newFakeCache())
		r, err := New(cfg, sink, zap.New(core), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		wal := newScriptedWAL()
		wal.asked = func(s status) {
			if s.wantsReply {
				wal.incoming <- keepaliveMsg(100, false)
			}
		}
		go func() {
			for range wal.statuses { // nobody counts them
			}
		}()
		receiver := newReceiver(wal, &r.cfg, 100, time.Minute, &r.received)
		s := &session{r: r, cfg: &r.cfg, log: r.log, source: change.Source{SystemID: "1", Slot: cfg.Slot}, catalog: &catalog{}, receiver: receiver}
		sink.cache.position = change.Position{Source: s.source, Checkpoint: 100, Complete: true, Teams: 1}
		var failing atomic.Int64
		sink.hook(func(string) (bool, error) {
			n := failing.Add(1)
			if n < 60 {
				return true, nil // a minute in which all is well
			}
			return false, fmt.Errorf("read tcp 127.0.0.1:%d->127.0.0.1:6379: connection reset by peer", 30000+n%20000)
		})
		watch := &watcher{s: s, reports: make(chan report, 1), failed: make(chan error, 1)}
		go receiver.run()
		giveBack := time.AfterFunc(aDay/2, receiver.release)
		defer giveBack.Stop()
		ctx, cancel := context.WithTimeout(t.Context(), aDay)
		defer cancel()
		if err := newLeader(s, watch, 100, 100).run(ctx); ctx.Err() == nil {
			t.Errorf("the leader gave up: %v", err)
		}
		receiver.stop()
		few(t, logs, testutil.ToFloat64(r.metrics.sinkErrors), 50_000, 200_000)
	})
}
