package soak

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/oracle"
)

// watcher looks at the cache all the time and holds every look against the history.
type watcher struct {
	history *history
	cache   redis.UniversalClient // directly, through no proxy
	prefix  string
	pg      string // address of the source
	slot    string
	teams   int // ids from 1 to teams are looked at

	mu      sync.Mutex
	looks   int
	longest time.Duration // that a state was shown after it had been replaced
	faults  []error       // what was wrong
	floor   int           // index of the state last shown
	newest  int           // the newest state that is equal to it
	amnesia bool          // the cache was replaced by an older one, and its leader has not noticed yet
	swaps   int           // counts the beginnings and the ends of such replacements
	last    look          // before that

	former      map[string]string // version by team
	fingerprint string            // of the last look, if nothing changed there is nothing to judge
	contents    map[string]digest // team + version → content
}

const everyLook = 5 * time.Millisecond

// run looks until the context ends.
func (w *watcher) run(ctx context.Context) {
	var db *pgx.Conn
	defer func() { w.hangUp(db) }()
	ticker := time.NewTicker(everyLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if db == nil || db.IsClosed() {
			db = w.dial(ctx)
		}
		w.once(ctx, db)
	}
}

func (w *watcher) dial(ctx context.Context) *pgx.Conn {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	db, err := pgx.Connect(ctx, w.pg)
	if err != nil {
		return nil // the source is down: the cache can be judged nevertheless
	}
	return db
}

func (w *watcher) hangUp(db *pgx.Conn) {
	if db != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = db.Close(ctx) // the server may have been killed
	}
}

// once takes and judges one look.
func (w *watcher) once(ctx context.Context, db *pgx.Conn) {
	w.mu.Lock()
	swaps := w.swaps
	w.mu.Unlock()
	confirmed := w.confirmed(ctx, db) // before the checkpoint is read: it may not be ahead of it (G4)
	l, err := w.look(ctx)
	if err != nil || l == nil {
		w.age() // no answer is no wrong answer, but an old one
		return
	}
	w.mu.Lock()
	floor := w.floor
	if w.amnesia && swaps == w.swaps && w.noticed(*l, confirmed) { // not if the look was one at the former cache
		w.amnesia = false
		floor, w.former, w.contents = 0, nil, nil
	}
	amnesia := w.amnesia
	if !amnesia {
		w.last = *l
	}
	w.mu.Unlock()
	if amnesia {
		return
	}
	shown, newest, err := w.history.judge(*l, floor)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.amnesia {
		return // it began while this look was taken
	}
	w.looks++
	w.floor = shown
	if newest >= 0 {
		w.newest = newest
	}
	err = errors.Join(err, w.judgeVersions(*l), judgeConfirmed(*l, confirmed))
	if err != nil && len(w.faults) < 5 {
		w.faults = append(w.faults, fmt.Errorf("%s: %w", time.Now().Format("15:04:05.000"), err))
	}
}

// age notes for how long the state that was last seen has been out of date.
func (w *watcher) age() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longest = max(w.longest, w.history.staleness(w.newest, time.Now()))
}

// noticed reports whether a cache that was replaced has caught up with what it was before and with what the slot has confirmed. Until then it is an old
// cache that calls itself complete, as it was when it was saved.
func (w *watcher) noticed(l look, confirmed change.LSN) bool {
	is, _ := change.ParseLSN(l.meta["checkpoint"])
	was, _ := change.ParseLSN(w.last.meta["checkpoint"])
	return confirmed != 0 && l.meta["complete"] == "1" && is >= max(was, confirmed)
}

// forget has the cache replaced by an older one.
func (w *watcher) forget(replace func()) {
	announce := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.amnesia = true
		w.swaps++
	}
	announce()
	replace()
	announce()
}

func (w *watcher) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.looks
}

// err returns what was wrong so far.
func (w *watcher) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.faults...)
}

// confirmed is the position that the slot was told; 0 if it cannot be had.
func (w *watcher) confirmed(ctx context.Context, db *pgx.Conn) change.LSN {
	if db == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var text string
	if db.QueryRow(ctx, "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", w.slot).Scan(&text) != nil {
		return 0
	}
	lsn, _ := change.ParseLSN(text)
	return lsn
}

func (w *watcher) key(name string) string { return "{" + w.prefix + "}:" + name }

// look reads everything in one transaction; nil if nothing has changed since the last look.
func (w *watcher) look(ctx context.Context) (*look, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	pipe := w.cache.TxPipeline()
	meta, listed, tokens := pipe.HGetAll(ctx, w.key("meta")), pipe.HGetAll(ctx, w.key("teams")), pipe.HGetAll(ctx, w.key("tokens"))
	teams := make([]*redis.MapStringStringCmd, w.teams+1)
	for id := 1; id <= w.teams; id++ {
		teams[id] = pipe.HGetAll(ctx, w.key("team:"+strconv.Itoa(id)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	l := &look{meta: meta.Val(), versions: map[string]string{}, state: oracle.State{Teams: map[string]map[string]oracle.Record{}, Tokens: tokens.Val()}}
	delete(l.meta, "heartbeat")
	delete(l.meta, "beat")
	if fingerprint := fmt.Sprint(l.meta, listed.Val()); fingerprint == w.fingerprint {
		return nil, nil
	} else {
		w.fingerprint = fingerprint
	}
	for id := 1; id <= w.teams; id++ {
		fields, name := teams[id].Val(), strconv.Itoa(id)
		if len(fields) == 0 {
			continue
		}
		team, err := oracle.ParseTeam(name, fields)
		if err != nil {
			return nil, err
		}
		l.state.Teams[name], l.versions[name] = team, fields["@v"]
	}
	return l, nil
}

// judgeVersions: a team's version never goes back, and stands for one content.
func (w *watcher) judgeVersions(l look) error {
	if w.former == nil {
		w.former, w.contents = map[string]string{}, map[string]digest{}
	}
	for team, version := range l.versions {
		if version < w.former[team] {
			return fmt.Errorf("team %s went back from version %s to %s", team, w.former[team], version)
		}
		content := w.history.sumTeam(team, l.state.Teams[team], func(string, digest) {})
		key := team + " " + version
		if was, seen := w.contents[key]; seen && was != content {
			return fmt.Errorf("team %s changed under version %s", team, version)
		}
		if w.former[team] != version {
			delete(w.contents, team+" "+w.former[team])
		}
		w.former[team], w.contents[key] = version, content
	}
	return nil
}

// judgeConfirmed: a cache that does not say it is incomplete holds what the slot no longer has.
func judgeConfirmed(l look, confirmed change.LSN) error {
	checkpoint, err := change.ParseLSN(l.meta["checkpoint"])
	if err != nil || l.meta["complete"] != "1" || l.meta["reconcile"] != "" || checkpoint >= confirmed {
		return nil
	}
	return fmt.Errorf("acknowledged too early: the slot has confirmed %s, the cache is as of %s", confirmed, checkpoint)
}
