package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/testenv"
)

// G2, S45, F60: readers run while teams are replaced and swap their tokens, and never see half of a change: neither a team with records of two versions nor
// a token without its team.
func TestReadersNeverSeeHalfAChange(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.w.fill("one", definition{id: 1, token: "phc_x", mark: "v0", flags: 5}, definition{id: 2, token: "phc_y", mark: "v0", flags: 5})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_x": "v0", "phc_y": "v0", "phc_9": "absent"})
	stop := b.w.beating()
	defer stop()
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for reads := 0; ; reads++ {
				select {
				case <-done:
					t.Logf("%d reads", reads)
					return
				default:
				}
				for _, token := range []string{"phc_x", "phc_y"} {
					if got := b.answer(token); got[0] != 'v' {
						t.Errorf("token %s: %s", token, got)
						return
					}
					if program, lookup := b.Program(token); lookup != decide.Found || program == nil {
						t.Errorf("token %s: program %v, %v", token, program, lookup)
						return
					}
				}
			}
		})
	}
	last := ""
	for n := range 300 {
		x, y := "phc_x", "phc_y"
		if n%2 == 1 {
			x, y = y, x
		}
		last = fmt.Sprintf("v%d", n)
		teams := []definition{{id: 1, token: x, mark: last, flags: 1 + n%5}, {id: 2, token: y, mark: last, flags: 1 + n%5}}
		b.w.put(teams...)
		if n%20 == 7 {
			// The reader finds a gap and reads all teams while they go on changing.
			b.w.client.XTrimMaxLen(t.Context(), b.w.keys.Changes, 0)
		}
	}
	b.wants(t, 3*time.Second, map[string]string{"phc_x": last, "phc_y": last})
	close(done)
	readers.Wait()
}

// A change of tokens of which the stream's next entries name only one team takes the others along: the reader may be between two transactions.
func TestEntangledTeams(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.w.fill("one", definition{id: 1, mark: "a"}, definition{id: 2, mark: "b"}, definition{id: 3, mark: "c"}, definition{id: 4, mark: "d"})
	f := &follower{Store: b.Store, keys: flagcache.NewKeys(b.cfg.Prefix), client: b.cfg.Client, torn: make(map[int64]struct{})}
	if err := f.look(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	// The cache is ahead: a token moved from 1 to 2 without a swap, and 3 and 4 swapped. The reader is told of 1 and 3 alone.
	b.w.put(definition{id: 1, token: "phc_new", mark: "a2"}, definition{id: 2, token: "phc_1", mark: "b2"}, definition{id: 3, token: "phc_4", mark: "c2"},
		definition{id: 4, token: "phc_3", mark: "d2"})
	d := newDraft(b.view.Load())
	if _, err := f.read(t.Context(), d, []int64{1, 3}, nil); err != nil {
		t.Fatal(err)
	}
	f.publish(d)
	want := map[string]string{"phc_new": "a2", "phc_1": "b2", "phc_2": "unavailable", "phc_3": "d2", "phc_4": "c2"}
	if err := b.has(want); err != nil {
		t.Error(err)
	}

	// The same while all is read without a transaction: the draft holds 1 from before another swap.
	d = newDraft(b.view.Load())
	if _, err := f.read(t.Context(), d, []int64{1}, nil); err != nil {
		t.Fatal(err)
	}
	b.w.put(definition{id: 1, token: "phc_1", mark: "a3"}, definition{id: 2, token: "phc_new", mark: "b3"})
	if _, err := f.fetch(t.Context(), d, []int64{2}); err != nil {
		t.Fatal(err)
	}
	if err := f.settleTokens(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	f.publish(d)
	if err := b.has(map[string]string{"phc_1": "a3", "phc_new": "b3"}); err != nil {
		t.Error(err)
	}
}

// Tokens swap between the comparison of versions and the read of what differs, which takes no transaction.
func TestTokensSwapWhileAllIsRead(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.w.fill("one", definition{id: 1, mark: "a"}, definition{id: 2, mark: "b"}, definition{id: 3, mark: "c"})
	f := &follower{Store: b.Store, keys: flagcache.NewKeys(b.cfg.Prefix), client: b.cfg.Client, torn: make(map[int64]struct{})}
	if err := f.look(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	b.w.put(definition{id: 1, mark: "a2"})
	b.w.put(definition{id: 3, mark: "c2"})
	f.client.AddHook(&beforeBulk{meta: b.w.keys.Meta, do: func() {
		b.w.put(definition{id: 1, token: "phc_2", mark: "a3"}, definition{id: 2, token: "phc_1", mark: "b3"}, definition{id: 3, token: "phc_new", mark: "c3"},
			definition{id: 4, token: "phc_3", mark: "d3"})
	}})
	if err := f.look(t.Context(), reasonGap); err != nil {
		t.Fatal(err)
	}
	if err := b.has(map[string]string{"phc_1": "b3", "phc_2": "a3", "phc_3": "d3", "phc_new": "c3"}); err != nil {
		t.Error(err)
	}
}

// beforeBulk does something once, before the first pipeline that begins with the hash of a team.
type beforeBulk struct {
	meta string
	do   func()
	done bool
}

func (h *beforeBulk) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (h *beforeBulk) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *beforeBulk) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		if args := commands[0].Args(); !h.done && len(args) == 2 && args[0] == "hgetall" && args[1] != h.meta {
			h.done = true
			h.do()
		}
		return next(ctx, commands)
	}
}

// The cache changes hands between a poll and a read: nothing of the new one is taken for the old.
func TestCacheMovesDuringRead(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.w.fill("one", definition{id: 1, mark: "a"})
	f := &follower{Store: b.Store, keys: flagcache.NewKeys(b.cfg.Prefix), client: b.cfg.Client, torn: make(map[int64]struct{})}
	if err := f.look(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	b.w.client.FlushDB(t.Context())
	d := newDraft(b.view.Load())
	if _, err := f.read(t.Context(), d, []int64{1}, nil); err != errMoved {
		t.Errorf("read = %v, want errMoved", err)
	}
}

// decide needs to read the cache and nothing else: the user of this test may do no more than doc.go says.
func TestReadOnlyUser(t *testing.T) { // S6, S5
	t.Parallel()
	own, b := ownRedis(t, nil)
	rules := []any{"ACL", "SETUSER", "decide", "on", ">secret", "resetkeys", "%R~{test}:*", "resetchannels", "-@all"}
	for _, command := range readOnlyCommands {
		rules = append(rules, "+"+command)
	}
	if err := b.w.client.Do(t.Context(), rules...).Err(); err != nil {
		t.Fatal(err)
	}
	client := newClient(t, "redis://decide:secret@"+own.Addr)
	b.cfg.Client = client
	if err := client.HSet(t.Context(), b.w.keys.Meta, "x", "y").Err(); err == nil {
		t.Error("the user may write")
	}
	b.w.fill("one", definition{id: 1, mark: "a"}, definition{id: 2, mark: "b"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_9": "absent"})
	b.w.put(definition{id: 1, mark: "a2"})
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a2"})
	b.w.lead("two")
	b.w.beat()
	b.w.remove(2)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a2", "phc_2": "absent"})
	if s := b.Status(); s.Error != "" {
		t.Errorf("Status = %+v", s)
	}
}

// A Cluster behaves as one Redis: all keys share a slot.
func TestCluster(t *testing.T) { // S52
	t.Parallel()
	own := testenv.RedisServer(t, testenv.RedisOptions{Process: true, Conf: map[string]string{"cluster-enabled": "yes", "cluster-port": testenv.FreePort(t)}})
	client := own.Client(t)
	if err := client.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		info, err := client.ClusterInfo(t.Context()).Result()
		if err == nil && !strings.Contains(info, "cluster_state:ok") {
			err = errors.New(info)
		}
		return err
	})
	b := setupAt(t, client, "redis+cluster://"+own.Addr, "test", nil)
	b.w.fill("one", definition{id: 1, mark: "a"}, definition{id: 2, mark: "b"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_2": "b", "phc_9": "absent"})
	b.w.put(definition{id: 1, token: "phc_2", mark: "a2"}, definition{id: 2, token: "phc_1", mark: "b2"})
	b.wants(t, time.Second, map[string]string{"phc_1": "b2", "phc_2": "a2"})
}
