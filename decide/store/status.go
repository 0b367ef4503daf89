package store

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/flagcache"
)

const (
	// certainFor is how long after a successful poll an absence is still believed.
	certainFor = 5 * time.Second
	// clockSlack is how far a heartbeat may be ahead of the clock of Redis.
	clockSlack = time.Second
)

// condition is what is known of the source, besides the teams. It is immutable: the follower replaces it.
type condition struct {
	cursor     cursor         // of the moment: the view is at least there
	meta       flagcache.Meta // of the last poll
	polled     time.Time      // when that was; zero = never
	beat       time.Time      // when the last heartbeat was written that was seen, by our clock; zero = never
	whole      bool           // the view is all of the cursor's cache, and no more
	certain    bool           // whole, and what the cache lacks is gone from the source
	checkpoint string         // version text of the last position known to be in the view
	origin     Origin
	since      time.Time // when the origin was loaded
	applied    time.Time // when the last change was served
	commitTime int64     // µs since 1970, of that change; 0 = unknown
	failure    string    // why Redis cannot be followed; empty = it is
	failing    time.Time // since when
}

// Origin is where answers come from.
type Origin string

// The origins, also values of a metric's label.
const (
	OriginNone   Origin = "none"
	OriginFile   Origin = "file"
	OriginRedis  Origin = "redis"
	OriginMemory Origin = "memory" // once from Redis, which does not answer now
)

// absenceCertain reports whether a token that is not in the view certainly belongs to no team.
func (c *condition) absenceCertain(now time.Time) bool {
	since := now.Sub(c.polled)
	return c.certain && since < certainFor && now.Sub(c.beat) < flagcache.HeartbeatWithin
}

// mayBeEmpty reports whether a view without teams can be right: it is of a file, or of a cache that is complete.
func (c *condition) mayBeEmpty() bool {
	return c.origin == OriginFile || c.origin == OriginRedis && c.meta.Complete
}

// stale is how long the last heartbeat is past its due; 0 while heartbeats come.
func (c *condition) stale(now time.Time) time.Duration {
	from := c.beat
	if from.IsZero() {
		from = c.since
	}
	if age := now.Sub(from); age >= flagcache.HeartbeatWithin {
		return age
	}
	return 0
}

// report replaces the condition. Only the follower calls it, after the view that it speaks of is served.
func (s *Store) report(change func(c *condition)) {
	next := *s.condition.Load()
	change(&next)
	s.condition.Store(&next)
}

// saw reports a poll.
func (f *follower) saw(meta flagcache.Meta, clock time.Time) {
	f.report(func(c *condition) {
		before := c.meta.Heartbeat
		c.meta, c.polled, c.failure = meta, time.Now(), f.waiting
		if f.waiting == "" {
			c.failing = time.Time{}
		} else if c.failing.IsZero() {
			c.failing = c.polled
		}
		switch age := meta.HeartbeatAge(clock); {
		case meta.Heartbeat == 0:
		case age > -clockSlack:
			c.beat = c.polled.Add(-max(0, age))
		case before != 0 && before != meta.Heartbeat:
			// It is still to come, by the clock of a replica that is late, or of a server whose clock has gone back. That it has changed is all it tells.
			c.beat = c.polled
		}
		f.describe(c)
	})
}

// describe fills in what the cursor says.
func (f *follower) describe(c *condition) {
	c.cursor = f.cursor
	if f.cursor.resolved {
		c.fromRedis()
	}
	c.whole = f.cursor.resolved && !f.cursor.held && !f.cursor.distrust && len(f.torn) == 0
	c.certain = c.whole && f.waiting == "" && settled(c.meta) && c.meta.Owner == f.cursor.owner && c.meta.Epoch == f.cursor.epoch
	if f.cursor.resolved && f.cursor.checkpoint != 0 {
		c.checkpoint = flagcache.Version(f.cursor.epoch, f.cursor.checkpoint)
	}
}

// fromRedis notes that what is served is what Redis has: it was compared, or the stream has brought what the file lacked.
func (c *condition) fromRedis() {
	if c.origin != OriginRedis {
		c.origin, c.since = OriginRedis, time.Now()
	}
}

// reportCertainty reports a changed cursor at once: what was certain of the cache before is not of this one.
func (f *follower) reportCertainty() {
	f.report(f.describe)
}

// loaded reports that the view was compared with Redis.
func (f *follower) loaded(changed int) {
	f.report(func(c *condition) {
		c.fromRedis()
		if changed > 0 {
			c.applied = time.Now()
		}
		f.describe(c)
	})
}

// applied reports that entries of the stream are served.
func (f *follower) applied(entries int, last flagcache.Entry) {
	f.metrics.entries.Add(float64(entries))
	f.report(func(c *condition) {
		c.applied = time.Now()
		c.commitTime = last.CommitTime
		f.describe(c)
	})
}

// fails reports an error of Redis: with one line when it begins.
func (f *follower) fails(err error) {
	f.metrics.errors.Inc()
	f.failures++
	if f.failing.IsZero() {
		f.failing = time.Now()
		f.log.Warn("redis does not answer, serving what is in memory", zap.Error(err), zap.Int("teams", f.view.Load().teams.size))
	}
	f.report(func(c *condition) {
		c.failure, c.failing = err.Error(), f.failing
	})
}

// works reports that Redis answers.
func (f *follower) works() {
	if f.failing.IsZero() {
		return
	}
	f.log.Info("redis answers again", zap.Duration("after", time.Since(f.failing)))
	f.failing, f.failures = time.Time{}, 0
}

// Status is the state of the store, for people and for /status.
type Status struct {
	Source       Origin     `json:"source"`
	Since        time.Time  `json:"since"` // when the definitions were first loaded from there
	Position     string     `json:"position"`
	AgeSeconds   float64    `json:"age_seconds"` // since the last heartbeat; 0 while they come
	Epoch        int64      `json:"epoch"`
	Owner        string     `json:"owner"`
	Complete     bool       `json:"complete"`
	Reconcile    string     `json:"reconcile,omitempty"`
	Certain      bool       `json:"certain"` // unknown tokens are answered with 401
	LastChange   *time.Time `json:"last_change,omitempty"`
	LastCommit   *time.Time `json:"last_commit,omitempty"` // commit time of that change
	LastPoll     *time.Time `json:"last_poll,omitempty"`
	Teams        int        `json:"teams"`
	Programs     int        `json:"programs"`
	RecordBytes  int64      `json:"record_bytes"`
	ProgramBytes int64      `json:"program_bytes"`
	Error        string     `json:"error,omitempty"`
	ErrorSince   *time.Time `json:"error_since,omitempty"`
	SnapshotFile string     `json:"snapshot_file,omitempty"`
	SnapshotAt   *time.Time `json:"snapshot_at,omitempty"`
	FileError    string     `json:"snapshot_error,omitempty"`
}

// Status returns the state of the store.
func (s *Store) Status() Status {
	c, v, now := s.condition.Load(), s.view.Load(), time.Now()
	file := s.saved.Load()
	programs, programBytes := s.programs.count()
	status := Status{
		Source: s.source(c, now), Since: c.since, Position: c.checkpoint, AgeSeconds: c.stale(now).Seconds(), Epoch: c.cursor.epoch, Owner: c.cursor.owner,
		Complete: c.meta.Complete, Reconcile: c.meta.Reconcile, Certain: c.absenceCertain(now),
		LastChange: optional(c.applied), LastPoll: optional(c.polled),
		Teams: v.teams.size, Programs: programs, RecordBytes: v.records, ProgramBytes: programBytes,
		Error: c.failure, ErrorSince: optional(c.failing),
		SnapshotFile: s.cfg.SnapshotFile, SnapshotAt: optional(file.at), FileError: file.problem,
	}
	if c.commitTime != 0 {
		status.LastCommit = new(time.UnixMicro(c.commitTime))
	}
	return status
}

// source names where answers come from now.
func (s *Store) source(c *condition, now time.Time) Origin {
	if c.origin == OriginRedis && (c.failure != "" || now.Sub(c.polled) >= certainFor) {
		return OriginMemory
	}
	return c.origin
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Summary is one team in a list for people.
type Summary struct {
	ID      int64  `json:"id"`
	Token   string `json:"token"`
	Name    string `json:"name"`
	Project int64  `json:"project_id"`
	Version string `json:"version"`
	Flags   int    `json:"flags"`
}

// Teams returns the teams whose id or project is the query, or whose token or name contains it, those with most flags first; all for an empty query.
// It may unpack every team: it is for pages for people.
func (s *Store) Teams(query string, limit int) []Summary {
	v := s.view.Load()
	number, err := strconv.ParseInt(query, 10, 64)
	isNumber := err == nil
	query = strings.ToLower(query)
	var found []*team
	for _, t := range v.teams.all() {
		if query == "" || isNumber && (t.id == number || t.project == number) || strings.Contains(strings.ToLower(t.token), query) ||
			strings.Contains(strings.ToLower(t.name()), query) {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b *team) int { return cmp.Or(cmp.Compare(b.flags, a.flags), cmp.Compare(a.id, b.id)) })
	found = found[:min(limit, len(found))]
	summaries := make([]Summary, len(found))
	for i, t := range found {
		summaries[i] = Summary{ID: t.id, Token: t.token, Name: t.name(), Project: t.project, Version: t.version.String(), Flags: int(t.flags)}
	}
	return summaries
}

// name unpacks the team's name; empty if there is none.
func (t *team) name() string {
	records, err := t.records()
	if err != nil {
		return ""
	}
	var row struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(records.Team, &row) != nil {
		return ""
	}
	return row.Name
}
