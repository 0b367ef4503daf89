package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/killpoint"
)

// provisionalEvery is the time between two provisional fills.
const provisionalEvery = 30 * time.Second

// filler fills a cache that cannot be trusted from ordinary snapshots while the exact copy has to wait for somebody's transaction.
type filler struct {
	s     *session
	due   time.Time
	floor change.LSN
	told  bool // that it has filled the cache
}

func newFiller(s *session) *filler {
	return &filler{s: s, due: time.Now().Add(s.cfg.ProvisionalAfter)}
}

// tick fills the cache if that is due. floor is raised to a position behind everything that the cache then shows: an exact copy of an earlier one would go
// backwards.
func (f *filler) tick(ctx context.Context) error {
	if time.Now().Before(f.due) {
		return nil
	}
	since := time.Now()
	snap, err := ordinarySnapshot(ctx, f.s.cfg, len(f.s.catalog.tables), f.s.source, &f.s.server)
	if err != nil {
		return fmt.Errorf("filling the cache provisionally: %w", err)
	}
	defer snap.close()
	f.floor = max(f.floor, snap.at)
	var result change.ReconcileResult
	err = snap.giveWay(ctx, f.s.cfg, func(ctx context.Context) (err error) {
		result, err = f.s.r.sink.Reconcile(ctx, change.Copy{
			Source: f.s.source,
			At:     snap.at,
			Reason: "provisional, until running transactions let an exact copy through",
			Teams:  snap.teams(ctx, f.s.r.copied),
		})
		return err
	})
	if errors.Is(err, errInTheWay) {
		f.due = time.Now().Add(f.s.cfg.ProvisionalAfter)
		return nil
	}
	if err != nil {
		return fmt.Errorf("filling the cache provisionally: %w", err)
	}
	level := zap.WarnLevel
	if f.told { // a transaction may be left open for a day
		level = zap.DebugLevel
	}
	f.told = true
	f.s.log.Log(level, "cache filled provisionally, while an exact copy waits", zap.Int("teams", result.Teams), zap.Int("teams_written", result.TeamsWritten))
	f.s.r.updateReconcile(func(st *ReconcileStatus) {
		if st.ProvisionalSince.IsZero() {
			st.ProvisionalSince = since
		}
	})
	f.s.r.metrics.reconciles.WithLabelValues(resultProvisional).Inc()
	f.due = time.Now().Add(provisionalEvery)
	return nil
}

// copied counts what a copy has yielded.
func (r *Replicator) copied(teams, rows int) {
	killpoint.Hit(killpoint.Reconcile)
	r.copiedTeams.Add(int64(teams))
	r.copiedRows.Add(int64(rows))
}

// waiting says what a reconcile waits for: in the status at once, in the log at first and then seldom.
type waiting struct {
	r   *Replicator // nil for a command without status
	log *zap.Logger

	mu    sync.Mutex
	next  time.Time // guarded by mu
	every time.Duration
}

// How often the log says again what a reconcile waits for.
const (
	waitingLogMin = 5 * time.Second
	waitingLogMax = 10 * time.Minute
)

func newWaiting(r *Replicator, log *zap.Logger) *waiting {
	return &waiting{r: r, log: log, next: time.Now().Add(2 * time.Second), every: waitingLogMin}
}

func (w *waiting) tell(what string) {
	if w.r != nil {
		w.r.updateReconcile(func(st *ReconcileStatus) { st.Waiting = what })
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.After(w.next) {
		w.log.Warn("a consistent copy waits for running transactions", zap.String("waiting_for", what))
		w.next = now.Add(w.every)
		w.every = min(2*w.every, waitingLogMax)
	}
}
