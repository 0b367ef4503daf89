package store

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/flagcache"
)

// cursor is how far the follower is, and what it knows of the cache that it follows. One goroutine owns it.
type cursor struct {
	owner      string
	epoch, seq int64  // everything up to this stream entry is in the view
	checkpoint uint64 // the last LSN known to be in the view

	// distrust is set when the cache is behind what was read from it before: Redis came back with old data. The heartbeat of that moment tells when a
	// writer has looked at the cache since.
	distrust  bool
	heartbeat int64

	owed     string // why all versions are to be compared, until that has been done to the end; empty = they are not
	held     bool   // the last revalidation kept teams that the cache lacks, or has in an older version
	resolved bool   // meta was reached since the last revalidation: the view is whole
	lastSeq  int64  // seq at the poll before

	ahead time.Time // since when meta is ahead of a seq that does not move; zero = it is not
}

// verdict is what a poll of meta asks for.
type verdict uint8

const (
	follow     verdict = iota // the stream tells all
	wait                      // there is no cache, or none that this program can read: keep what there is
	revalidate                // compare all versions
)

// reachedWithin is how long the stream may take to bring what meta counts. Polls are up to a tenth less than a second apart.
const reachedWithin = 850 * time.Millisecond

// Reasons to revalidate: labels of a metric.
const (
	reasonStart     = "start"
	reasonOwner     = "owner_changed"
	reasonEpoch     = "epoch_changed"
	reasonBack      = "went_back"
	reasonConfirmed = "confirmed"
	reasonGap       = "gap_in_stream"
	reasonBehind    = "stream_behind"
	reasonReconcile = "reconciled"
	reasonComplete  = "completed"
	reasonEntry     = "unreadable_entry"
)

// judge decides what a poll of meta asks for, and why. It changes nothing: see note.
func (c *cursor) judge(m flagcache.Meta, now time.Time) (verdict, string) {
	switch {
	case m.Schema > flagcache.SchemaVersion:
		return wait, fmt.Sprintf("the cache has schema version %d, newer than %d: upgrade decide first", m.Schema, flagcache.SchemaVersion)
	case m.Owner == "" || m.Epoch == 0:
		return wait, "the cache is empty"
	case c.owner == "":
		return revalidate, reasonStart
	case m.Owner != c.owner:
		return revalidate, reasonOwner
	case m.Epoch != c.epoch:
		return revalidate, reasonEpoch
	case c.wentBack(m):
		return revalidate, reasonBack
	case c.owed != "":
		return revalidate, c.owed
	case c.distrust && settled(m) && m.Heartbeat > c.heartbeat:
		return revalidate, reasonConfirmed
	case c.held && !c.distrust && settled(m):
		return revalidate, reasonComplete
	case !c.ahead.IsZero() && c.seq == c.lastSeq && m.Seq > c.seq && now.Sub(c.ahead) >= reachedWithin:
		return revalidate, reasonBehind
	}
	return follow, ""
}

// wentBack reports whether the cache has lost what was read from it before.
func (c *cursor) wentBack(m flagcache.Meta) bool {
	sameReign := m.Owner == c.owner && m.Epoch == c.epoch
	return sameReign && m.Seq < c.seq || checkpointOf(m) < c.checkpoint && !c.distrust
}

// settled reports whether what the cache lacks is gone from the source: only then does an absence mean something.
func settled(m flagcache.Meta) bool {
	return m.Complete && m.Reconcile == ""
}

// note records what a poll saw, for the next one to compare.
func (c *cursor) note(m flagcache.Meta, now time.Time) {
	switch {
	case m.Seq <= c.seq:
		c.ahead = time.Time{}
	case c.ahead.IsZero() || c.seq != c.lastSeq:
		c.ahead = now
	}
	c.lastSeq = c.seq
}

// reach records that meta was seen to be at or before the view.
func (c *cursor) reach(m flagcache.Meta) {
	if m.Owner == c.owner && m.Epoch == c.epoch && m.Seq <= c.seq {
		c.resolved = true
		if !c.distrust {
			c.checkpoint = max(c.checkpoint, checkpointOf(m))
		}
	}
}

// checkpointOf returns the checkpoint as a number; 0 if there is none that can be read.
func checkpointOf(m flagcache.Meta) uint64 {
	var high, low uint32
	if n, err := fmt.Sscanf(m.Checkpoint, "%X/%X", &high, &low); n != 2 || err != nil {
		return 0
	}
	return uint64(high)<<32 | uint64(low)
}

// poll reads meta together with the clock of Redis, which the heartbeat is compared with.
func (f *follower) poll(ctx context.Context) (flagcache.Meta, time.Time, error) {
	limit := pollTimeout
	if f.failures%connectTries == 0 {
		limit = connectTimeout
	}
	ctx, cancel := step(ctx, limit, "polling the cache")
	defer cancel()
	var fields *redis.MapStringStringCmd
	var clock *redis.TimeCmd
	_, err := f.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		fields, clock = pipe.HGetAll(ctx, f.keys.Meta), pipe.Time(ctx)
		return nil
	})
	if err != nil {
		return flagcache.Meta{}, time.Time{}, fmt.Errorf("polling the cache: %w", explain(ctx, err))
	}
	meta, err := flagcache.ParseMeta(fields.Val())
	if err != nil {
		return flagcache.Meta{}, time.Time{}, fmt.Errorf("polling the cache: %w", err)
	}
	return meta, clock.Val(), nil
}

// step bounds one step of the conversation with Redis; the cause of the end names it.
func step(ctx context.Context, limit time.Duration, name string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s took more than %s", name, limit))
}

// explain adds the cause of an ended context to an error that only says that it ended.
func explain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	return err
}
