package cachewriter

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/change"
)

// staging does something around the pipelines that stage teams. What it does instead of the first is its own business.
type staging struct {
	flaky
	around func(cmds []redis.Cmder, run func() error) error
}

func (h *staging) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		run := func() error { return next(ctx, cmds) }
		if h.around != nil && cmds[0].Name() == "hset" {
			return h.around(cmds, run)
		}
		return run()
	}
}

// Nothing that is served expires, and nothing that was staged stays.
func TestStagedTeamsBecomeTeams(t *testing.T) {
	b := setup(t)
	b.twoTeams()
	b.fill()
	b.check()
	for _, key := range b.redis.Keys(t.Context(), "{"+b.prefix+"}:*").Val() {
		if left := b.redis.TTL(t.Context(), key).Val(); left >= 0 || strings.Contains(key, ":staged:") {
			t.Errorf("%s is there and expires in %v", key, left)
		}
	}
}

// F33: a Redis that has lost what was staged, or a part of it, as in a failover to a replica that lags, may have lost anything: nothing is written, and the
// caller finds out what is there.
func TestLostStagedTeam(t *testing.T) {
	for name, lose := range map[string]func(b *bundle, key string){
		"a team":   func(b *bundle, key string) { b.redis.Del(b.t.Context(), key) },
		"a record": func(b *bundle, key string) { b.redis.HDel(b.t.Context(), key, "team") },
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.twoTeams()
			hook := &staging{around: func(cmds []redis.Cmder, run func() error) error {
				err := run()
				lose(b, cmds[len(cmds)-1].Args()[1].(string))
				return err
			}}
			b.config.Client.AddHook(hook)
			if _, err := b.Reconcile(t.Context(), b.m.copy("test")); !errors.Is(err, change.ErrFenced) {
				t.Fatalf("Reconcile = %v, want ErrFenced", err)
			}
			if keys := b.redis.Keys(t.Context(), "{"+b.prefix+"}:team:*").Val(); len(keys) > 0 {
				t.Errorf("the script wrote %v", keys)
			}
			hook.around = nil
			b.acquire()
			b.fill()
			b.check()
		})
	}
}

// F37: what an attempt that was given up had staged comes out of the network while the next one stages. It is not mixed into its teams, and it expires.
func TestLateStaging(t *testing.T) {
	b := setup(t)
	b.twoTeams()
	b.m.begin().put(flag, "13", modelRow{"team_id": 1, "key": "former"}).commit()
	former := b.m.copy("former")
	var late []redis.Cmder
	b.config.Client.AddHook(&staging{around: func(cmds []redis.Cmder, run func() error) error {
		if late == nil {
			late = cmds
			return errCut
		}
		err := run()
		for _, cmd := range late {
			if err := b.redis.Do(t.Context(), cmd.Args()...).Err(); err != nil {
				t.Error(err)
			}
		}
		return err
	}})
	if _, err := b.Reconcile(t.Context(), former); err == nil {
		t.Fatal("a reconcile that staged nothing ended well")
	}
	b.m.begin().remove(flag, "13").commit()
	b.fill()
	b.check()
	for _, key := range b.redis.Keys(t.Context(), "{"+b.prefix+"}:staged:*").Val() {
		if left := b.redis.TTL(t.Context(), key).Val(); left < 0 {
			t.Errorf("%s does not expire", key)
		}
	}
}
