package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
	"github.com/everflag/everflag/replication"
)

// state is what /status and /readyz say at one time. What is empty is not looked at.
type state struct {
	role    replication.Role
	ready   bool
	stage   string // of the reconcile; "none" wants that there is none
	says    string // part of the answer of /readyz
	details func(replication.Status) bool
}

// walker leads one replicator from state to state.
type walker struct {
	t *testing.T
	*runner
}

// look asks for both; they must agree.
func (w walker) look(ctx context.Context) (s replication.Status, code int, says string, err error) {
	if s, err = w.status(ctx); err != nil {
		return s, 0, "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/readyz", nil)
	if err != nil {
		return s, 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return s, 0, "", err
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // it has been read
	return s, response.StatusCode, strings.TrimSpace(string(body)), err
}

// is waits for a state.
func (w walker) is(name string, want state) {
	w.t.Helper()
	code := http.StatusServiceUnavailable
	if want.ready {
		code = http.StatusOK
	}
	testenv.Eventually(w.t, settle, func() error {
		s, got, says, err := w.look(w.t.Context())
		if err != nil {
			return err
		}
		stage := "none"
		if s.Reconcile != nil {
			stage = s.Reconcile.Stage
		}
		if s.Role != want.role || s.Ready != want.ready || got != code || want.stage != "" && stage != want.stage || !strings.Contains(says, want.says) ||
			want.details != nil && !want.details(s) {
			return fmt.Errorf("%s: /readyz %d %q, reconcile %s, status %+v; want %+v", name, got, says, stage, s, want)
		}
		return nil
	})
}

func (w walker) streams(after string) {
	w.t.Helper()
	w.is("streaming "+after, state{role: replication.RoleLeader, ready: true, stage: "none", says: "ok"})
}

// blocked is a transaction that a new slot has to wait for, until end.
func (w *world) blocked(t *testing.T) (end func()) {
	t.Helper()
	tx, err := w.pg.Conn(t).Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), "SELECT pg_current_xact_id()")
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestReadiness walks a replicator, and then another one behind it, through every state, and holds /readyz and /status to it (F73). What cannot be waited
// for has no state: the program ends (TestWrongSettings).
func TestReadiness(t *testing.T) { // F74
	t.Parallel()
	w, _ := newOwnWorld(t)
	testenv.AddTeam(t, w.pg, 1, nil)
	testenv.AddFlag(t, w.pg, 1, "flag", `{}`, nil)
	start := func(broken ...func(toPostgres, toRedis *testenv.Flaky)) (r walker, toPostgres, toRedis *testenv.Flaky) {
		toPostgres, toRedis = testenv.Proxy(t, addressOf(t, w.pg.URL)), testenv.Proxy(t, w.redis.Addr)
		for _, breaks := range broken {
			breaks(toPostgres, toRedis)
		}
		return walker{t, w.run(t, "REPLICATOR_POSTGRES_URL="+toPostgres.URL(w.pg.URL), "REPLICATOR_REDIS_URL="+toRedis.URL(w.redis.URL),
			"REPLICATOR_PROVISIONAL_AFTER=1s", "REPLICATOR_MAX_RETAINED_WAL=64MiB")}, toPostgres, toRedis
	}

	first, toPostgres, toRedis := start(func(toPostgres, toRedis *testenv.Flaky) { toPostgres.Cut(); toRedis.Cut() })
	first.is("starting with both servers away", state{role: replication.RoleConnecting, says: "no session: connecting to Postgres"})
	toPostgres.Restore()
	first.is("starting with Redis away", state{role: replication.RoleConnecting, says: "looking who leads the cache"})
	end := w.blocked(t)
	toRedis.Restore()
	first.is("the slot waits for a transaction", state{
		role: replication.RoleConnecting, stage: "waiting", says: "reconciling: the replication slot is missing",
		details: func(s replication.Status) bool { return strings.Contains(s.Reconcile.Waiting, "idle in transaction") },
	})
	first.is("filled provisionally", state{
		role: replication.RoleConnecting, stage: "waiting", says: "reconciling",
		details: func(s replication.Status) bool { return !s.Reconcile.ProvisionalSince.IsZero() },
	})
	end()
	first.streams("at first")

	w.walkLag(t, first)
	w.walkReconcile(t, first, toRedis)
	w.walkOutages(t, first, toPostgres, toRedis)

	second, toPostgres, toRedis := start()
	both := state{role: replication.RoleStandby, ready: true, says: "ok"}
	second.is("standing by", both)
	toRedis.Cut()
	second.is("standing by without Redis", state{role: replication.RoleStandby, says: "the cache or Postgres does not answer"})
	toRedis.Restore()
	second.is("standing by with Redis again", both)
	toPostgres.Cut()
	second.is("standing by without Postgres", state{role: replication.RoleConnecting, says: "no session"})
	toPostgres.Restore()
	second.is("standing by with Postgres again", both)
	for name, wire := range map[string]*testenv.Flaky{"Redis": toRedis, "Postgres": toPostgres} {
		second.silent(name, wire, replication.RoleStandby)
		second.is("standing by after a silent "+name, both)
	}
	first.Kill(t)
	second.streams("after the other one")
}

// walkLag lets the stream stand still for longer than the threshold.
func (w *world) walkLag(t *testing.T, r walker) {
	t.Helper()
	goOn := w.stopSender(t)
	w.exec(t, "UPDATE posthog_featureflag SET version = version + 1")
	r.is("behind by less than the threshold", state{
		role: replication.RoleLeader, ready: true,
		details: func(s replication.Status) bool { return s.LagBytes > 0 && s.LagSeconds < 5 },
	})
	r.is("behind by more than the threshold", state{
		role: replication.RoleLeader, stage: "none", says: "behind the source",
		details: func(s replication.Status) bool { return s.LagSeconds >= 5 && s.CacheError == "" },
	})
	goOn()
	r.streams("after lag")
}

// stopSender stops the server's process that sends the log, until goOn.
func (w *world) stopSender(t *testing.T) (goOn func()) {
	t.Helper()
	sender := testenv.Value[int](t, w.pg, "SELECT active_pid FROM pg_replication_slots WHERE active_pid IS NOT NULL")
	if err := syscall.Kill(sender, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn = sync.OnceFunc(func() { _ = syscall.Kill(sender, syscall.SIGCONT) }) // it may have ended
	t.Cleanup(goOn)
	return goOn
}

// walkReconcile stops a reconcile at each of its stages.
func (w *world) walkReconcile(t *testing.T, r walker, toRedis *testenv.Flaky) {
	t.Helper()
	rebuilt := make(chan error, 1)
	rebuild := func() {
		_, err := r.rebuild(t.Context())
		rebuilt <- err
	}
	done := func() {
		t.Helper()
		if err := <-rebuilt; err != nil {
			t.Error(err)
		}
	}
	end := w.blocked(t)
	go rebuild()
	at := func(stage string) state {
		return state{role: replication.RoleLeader, stage: stage, says: "reconciling"}
	}
	r.is("a reconcile waits", at("waiting"))
	end()
	done()
	r.streams("after a reconcile that waited")

	goOn := w.stopSender(t) // the copy's point is known, and the stream does not get there
	go rebuild()
	r.is("a reconcile has its snapshot", at("snapshot"))
	goOn()
	done()
	r.streams("after a reconcile that waited for the stream")

	toRedis.Delay(150 * time.Millisecond)
	go rebuild()
	r.is("a reconcile copies", at("copying"))
	toRedis.Delay(0)
	done()
	r.streams("after a reconcile that copied")
}

// silent lets a server say nothing for a while, on connections that stay open. Readiness must not wait for what that comes to.
func (w walker) silent(name string, wire *testenv.Flaky, role replication.Role) {
	w.t.Helper()
	wire.Stall()
	began := time.Now()
	w.is(name+" silent", state{role: role})
	if took := time.Since(began); took > 7*time.Second {
		w.t.Errorf("%s: ready for %v beside a silent %s", role, took, name)
	}
	wire.Cut() // connections that were stalled are of no use
	wire.Restore()
}

// walkOutages takes each server away from the leader.
func (w *world) walkOutages(t *testing.T, r walker, toPostgres, toRedis *testenv.Flaky) {
	t.Helper()
	toRedis.Cut()
	r.is("Redis away", state{role: replication.RoleLeader, says: "the cache cannot be written"})
	w.exec(t, "UPDATE posthog_featureflag SET version = version + 1") // it cannot be applied, so it holds the log
	testenv.Eventually(t, settle, func() error {
		w.exec(t, "SELECT pg_logical_emit_message(false, 'noise', repeat('x', 1000000)) FROM generate_series(1, 4)")
		if s, err := r.status(t.Context()); err != nil || !s.Released {
			return fmt.Errorf("%d bytes are retained, and none given back (%v)", s.RetainedWAL, err)
		}
		return nil
	})
	r.is("Redis away for long", state{
		role: replication.RoleLeader, says: "the cache cannot be written",
		details: func(s replication.Status) bool { return s.Released },
	})
	toRedis.Restore()
	r.streams("after the return of Redis")

	for name, wire := range map[string]*testenv.Flaky{"Redis": toRedis, "Postgres": toPostgres} {
		r.silent(name, wire, replication.RoleLeader)
		r.streams("after a silent " + name)
	}

	toPostgres.Cut()
	r.is("Postgres away", state{role: replication.RoleConnecting, says: "no session"})
	toPostgres.Restore()
	r.streams("after the return of Postgres")
}
