package cachewriter

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/change"
)

// end reconciles. The cache may turn it down, but not be taken for complete and differ.
func (b *bundle) end(c change.Copy) {
	b.t.Helper()
	_, err := b.Reconcile(b.t.Context(), c)
	if err == nil {
		b.check()
		return
	}
	if !errors.Is(err, change.ErrFenced) {
		b.t.Fatalf("Reconcile: %v, want ErrFenced", err)
	}
	if position := b.acquire(); position.Complete || position.Reconcile == "" {
		b.t.Errorf("the cache calls itself complete: %+v", position)
	}
	b.fill()
	b.check()
}

// F9, F33: the steps of a reconcile leave the checkpoint where it is. If Redis loses some of them, and no connection notices, the reconcile must not complete:
// here Redis is as it was when the copy began, as after a failover to a replica that lags.
func TestLostStepsOfAReconcile(t *testing.T) {
	b := filled(t)
	tx := b.m.begin()
	for id := 100; id < 1200; id++ {
		tx.put(team, fmt.Sprint(id), modelRow{"api_token": fmt.Sprint("phc_", id)})
	}
	tx.commit()
	c := b.m.copy("many teams")
	teams := c.Teams
	c.Teams = func(yield func(change.TeamRows, error) bool) {
		goBack := b.remember()
		n := 0
		for team, err := range teams {
			if n++; n == 1002 { // the first 500 are written, the next perhaps
				goBack()
			}
			if !yield(team, err) {
				return
			}
		}
	}
	b.end(c)
}

// remember returns what makes the cache what it is now, at once.
func (b *bundle) remember() (goBack func()) {
	b.t.Helper()
	ctx := b.t.Context()
	dumps := map[string]string{}
	for _, key := range b.allKeys() {
		dumps[key] = b.redis.Dump(ctx, key).Val()
	}
	return func() {
		b.t.Helper()
		keys := b.allKeys()
		if _, err := b.redis.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Del(ctx, keys...)
			for key, dump := range dumps {
				pipe.RestoreReplace(ctx, key, 0, dump)
			}
			return nil
		}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// straggler holds the first step of a reconcile back, as a network does that loses packets, and lets it through before another one ends.
type straggler struct {
	flaky
	client *redis.Client
	held   []any
	came   bool
}

func (s *straggler) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		is := func(script *redis.Script) bool { return len(cmd.Args()) > 1 && cmd.Args()[1] == script.Hash() }
		if s.held == nil && is(applyScript) {
			s.held = cmd.Args()
			cmd.SetErr(errCut)
			return errCut
		}
		if s.held != nil && is(finishScript) {
			s.came = true
			if err := s.client.Do(ctx, s.held...).Err(); err != nil {
				return err
			}
		}
		return next(ctx, cmd)
	}
}

// F29, F37: a step of a reconcile that was given up reaches Redis after those of the next one. It must not take a team back to the former copy. G3
func TestLateStepOfAReconcile(t *testing.T) {
	b := filled(t)
	slow := &straggler{client: b.redis}
	b.Writer = b.writer(b.url, slow)
	b.acquire()
	b.m.begin().put(flag, "11", modelRow{"key": "former"}).commit()
	if _, err := b.Reconcile(t.Context(), b.m.copy("former")); err == nil {
		t.Fatal("a reconcile without answer ended well")
	}
	b.m.begin().put(flag, "11", modelRow{"key": "newer"}).commit()
	b.end(b.m.copy("newer"))
	if !slow.came {
		t.Error("nothing came late")
	}
}
