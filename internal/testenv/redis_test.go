package testenv_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/testenv"
)

func TestRedisIsolatesTests(t *testing.T) {
	t.Parallel()
	one, two := testenv.Redis(t), testenv.Redis(t)
	if one.Prefix == two.Prefix {
		t.Fatalf("two tests share the prefix %q", one.Prefix)
	}
	clientOne, clientTwo := one.Client(t), two.Client(t)
	want(t, "setting", clientOne.Set(t.Context(), one.Prefix+":a", 1, 0).Err())
	want(t, "setting", clientTwo.Set(t.Context(), two.Prefix+":a", 2, 0).Err())
	if os.Getenv("TEST_REDIS_URL") == "" || os.Getenv("TEST_SERVERS") != "" && os.Getenv("TEST_SERVERS") != "env" {
		want(t, "flushing", clientOne.FlushDB(t.Context()).Err())
	}
	wantEqual(t, "the other test's key", clientTwo.Get(t.Context(), two.Prefix+":a").Val(), "2")
}

func TestRedisLeavesNothing(t *testing.T) {
	t.Parallel()
	var address, key string
	t.Run("inner", func(t *testing.T) {
		space := testenv.Redis(t)
		address, key = space.URL, space.Prefix+":left"
		want(t, "setting", space.Client(t).Set(t.Context(), key, 1, 0).Err())
	})
	options, err := redis.ParseURL(address)
	want(t, "reading the address", err)
	client := redis.NewClient(options)
	defer client.Close()
	wantEqual(t, "keys left", client.Exists(t.Context(), key).Val(), 0)
}

func TestRedisServerFaults(t *testing.T) {
	t.Parallel()
	s := testenv.RedisServer(t, testenv.RedisOptions{Conf: map[string]string{"appendonly": "yes", "appendfsync": "always", "requirepass": "secret"}})
	client := s.Client(t)
	ping := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		return client.Ping(ctx).Err()
	}
	want(t, "setting", client.Set(t.Context(), "a", 1, 0).Err())

	s.Freeze(t)
	wantError(t, "asking a frozen server", ping())
	s.Thaw(t)
	testenv.Eventually(t, soon, ping)

	s.Kill(t)
	wantError(t, "asking a killed server", ping())
	s.Start(t)
	wantEqual(t, "what was written before the kill", client.Get(t.Context(), "a").Val(), "1")

	s.Stop(t)
	wantError(t, "asking a stopped server", ping())
	s.Start(t)
	wantEqual(t, "what was written before the stop", client.Get(t.Context(), "a").Val(), "1")
}

func TestRedisReplicaFollows(t *testing.T) {
	t.Parallel()
	s := testenv.RedisServer(t, testenv.RedisOptions{Conf: map[string]string{"requirepass": "secret"}, Process: true})
	replica := s.Replica(t, testenv.RedisOptions{}).Client(t)
	want(t, "setting", s.Client(t).Set(t.Context(), "a", 1, 0).Err())
	testenv.Eventually(t, soon, func() error { return replica.Get(t.Context(), "a").Err() })
	wantError(t, "writing to the replica", replica.Set(t.Context(), "a", 2, 0).Err())
}
