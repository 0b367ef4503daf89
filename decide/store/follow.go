package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/backoff"
	"github.com/everflag/everflag/internal/flagcache"
)

const (
	pollEvery   = time.Second
	waitEvery   = 250 * time.Millisecond // while there is no cache to follow
	pollTimeout = time.Second
	// On a new connection the poll waits for several round trips more, which take longer than a poll where Redis is far away.
	connectTimeout = 2500 * time.Millisecond
	connectTries   = 4 // every so many attempts have that time, the first one included; the others notice sooner that a network is back
	readTimeout    = 5 * time.Second
	scanTimeout    = 5 * time.Second
	bulkTimeout    = 15 * time.Second

	blockTime = 300 * time.Millisecond
	// A blocked read that is not answered this long after its block time has no server behind it.
	blockSlack = time.Second

	// Entries per read of the stream, and so the teams of one transaction of reads, which Redis, and on one core this process, runs without a pause: 4 teams
	// of 50 flags take a tenth of a millisecond each of them.
	entriesPerRead = 4
)

// errMoved means that the cache turned into another one, by owner or epoch, between a poll and a read.
var errMoved = errors.New("the cache changed hands while it was read")

// follower keeps the store's view equal to the cache. One goroutine runs it and owns all of its fields.
type follower struct {
	*Store
	keys   flagcache.Keys
	client redis.UniversalClient

	cursor   cursor
	torn     map[int64]struct{} // teams whose records in the cache contradict themselves
	waiting  string             // why there is nothing to follow
	failing  time.Time          // since when Redis does not answer
	failures int                // in a row
	nextPoll time.Time
}

// run follows until the context ends.
func (f *follower) run(ctx context.Context) {
	retry := backoff.Backoff{Min: 50 * time.Millisecond, Max: 300 * time.Millisecond}
	for ctx.Err() == nil {
		err := contained(func() error { return f.step(ctx) })
		switch {
		case err == nil:
			f.works()
			retry.Reset()
		case errors.Is(err, errMoved):
			f.nextPoll = time.Time{}
		case ctx.Err() != nil:
			return
		default:
			f.fails(err)
			f.nextPoll = time.Time{}
			if retry.Wait(ctx) != nil {
				return
			}
		}
	}
}

// contained turns a panic into an error: no definition, however odd, may end the process, which would only meet it again at its next start.
func contained(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return do()
}

// step polls when it is time to, and reads the stream until the next poll.
func (f *follower) step(ctx context.Context) error {
	if !time.Now().Before(f.nextPoll) {
		if err := f.look(ctx, ""); err != nil {
			return err
		}
	}
	if f.waiting != "" {
		return sleep(ctx, time.Until(f.nextPoll))
	}
	return f.listen(ctx)
}

// look polls meta and does what it asks for, or compares all versions if the stream has given a reason to.
func (f *follower) look(ctx context.Context, reason string) error {
	meta, clock, err := f.poll(ctx)
	if err != nil {
		return err
	}
	asked, why := f.cursor.judge(meta, time.Now())
	if asked == follow && reason != "" {
		asked, why = revalidate, reason
	}
	next := pollEvery
	switch asked {
	case wait:
		f.wait(why)
		next = waitEvery
	case revalidate:
		f.waiting = ""
		if err := f.revalidate(ctx, meta, why); err != nil {
			return err
		}
		// What changed meanwhile stands in the stream; the next poll then finds the view whole.
		next = waitEvery / 10
	case follow:
		f.waiting = ""
		f.cursor.reach(meta)
	}
	f.cursor.note(meta, time.Now())
	f.saw(meta, clock)
	f.nextPoll = time.Now().Add(next - rand.N(next/10))
	return nil
}

// wait keeps what is served while there is no cache to follow.
func (f *follower) wait(why string) {
	if f.waiting != why {
		f.log.Warn("the cache cannot be followed, serving what is in memory", zap.String("reason", why), zap.Int("teams", f.view.Load().teams.size))
	}
	f.waiting = why
	f.cursor.resolved = false
}

// listen blocks on the stream until the next poll is due, and applies what it gets.
func (f *follower) listen(ctx context.Context) error {
	// Zero would block for ever; and a blocked read does not see that the context ends.
	block := min(max(time.Until(f.nextPoll), 10*time.Millisecond), blockTime)
	after := fmt.Sprintf("%d-%d", f.cursor.epoch, f.cursor.seq)
	reading, cancel := step(ctx, block+blockSlack, "waiting for changes")
	defer cancel()
	args := &redis.XReadArgs{Streams: []string{f.keys.Changes, after}, Count: entriesPerRead, Block: block}
	streams, err := f.client.XRead(reading, args).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil
	case err != nil:
		return fmt.Errorf("reading the changes: %w", explain(reading, err))
	}
	for _, stream := range streams {
		if err := f.advance(ctx, stream.Messages); err != nil {
			return err
		}
	}
	return nil
}

// advance applies entries of the stream: it reads the teams that they name and serves them all at once.
func (f *follower) advance(ctx context.Context, messages []redis.XMessage) error {
	ids := make(map[int64]struct{})
	var last flagcache.Entry
	for _, m := range messages {
		entry, err := flagcache.ParseEntry(m.ID, m.Values)
		if err != nil {
			f.log.Warn("a stream entry is not readable, comparing all versions instead", zap.Error(err))
			return f.look(ctx, reasonEntry)
		}
		switch {
		case entry.Epoch != f.cursor.epoch:
			return f.look(ctx, reasonEpoch)
		case entry.Seq != cmp.Or(last.Seq, f.cursor.seq)+1:
			return f.look(ctx, reasonGap)
		case entry.Mark == flagcache.MarkReconciled:
			return f.look(ctx, reasonReconcile)
		}
		if entry.Mark == "" {
			ids[entry.Team] = struct{}{}
		}
		last = entry
	}
	var meta flagcache.Meta
	if len(ids) > 0 {
		var err error
		d := newDraft(f.view.Load())
		if meta, err = f.read(ctx, d, slices.Collect(maps.Keys(ids)), ids); err != nil {
			return err
		}
		f.publish(d)
	}
	f.cursor.seq = last.Seq
	f.cursor.reach(meta)
	f.applied(len(messages), last)
	return nil
}

// publish serves the draft: from here on every request sees all of it.
func (f *follower) publish(d *draft) {
	if len(d.teams) == 0 {
		return
	}
	next := d.apply(f.cfg.SharedByProject)
	f.programs.prepare(next, d)
	f.view.Store(next)
	f.programs.replaced(d)
	f.changed.Add(1)
	if next.records > f.cfg.MaxMemory && d.base.records <= f.cfg.MaxMemory {
		f.log.Error("the records alone take more than the memory limit", zap.Int64("bytes", next.records), zap.Int64("limit", f.cfg.MaxMemory))
	}
}

// sleep waits; the error is that of an ended context.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
