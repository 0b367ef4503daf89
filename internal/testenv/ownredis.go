package testenv

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/testenv/server"
)

// RedisOptions say what an own Redis is like.
type RedisOptions struct {
	Conf    map[string]string // redis.conf directives, e.g. "maxmemory": "2mb"
	Process bool              // never a container: for Socket, Replica and a Cluster, whose nodes tell their own addresses
}

// RedisInstance is a Redis that one test has to itself and may hurt. Its address outlives stops and restarts.
type RedisInstance struct {
	URL    string // with the password, if Conf sets requirepass
	Addr   string // host:port
	Socket string // path of the Unix socket; empty in a container

	power
	server *server.Redis
}

// RedisServer starts a server for this test alone; it takes a few hundredths of a second. Its log is shown if the test fails.
func RedisServer(t testing.TB, options RedisOptions) *RedisInstance {
	t.Helper()
	c, err := chosen()
	require(t, err)
	conf := server.RedisConfig{Kind: c.own(options.Process), Conf: options.Conf}
	return ownRedis(t, func(ctx context.Context) (*server.Redis, error) { return server.StartRedis(ctx, conf) })
}

func ownRedis(t testing.TB, start func(context.Context) (*server.Redis, error)) *RedisInstance {
	t.Helper()
	rd, p := own(t, "Redis", start)
	return &RedisInstance{URL: rd.URL(0), Addr: rd.Addr, Socket: rd.Socket, server: rd, power: p}
}

// Client returns a client, closed when the test ends.
func (s *RedisInstance) Client(t testing.TB) *redis.Client {
	t.Helper()
	return newClient(t, s.URL)
}

// Stop asks the server to end and returns when it has.
func (s *RedisInstance) Stop(t testing.TB) {
	t.Helper()
	step(t, "stopping Redis", s.server.Stop)
}

// Replica starts a server that replicates this one and returns when the link is up.
func (s *RedisInstance) Replica(t testing.TB, options RedisOptions) *RedisInstance {
	t.Helper()
	return ownRedis(t, func(ctx context.Context) (*server.Redis, error) { return s.server.Replica(ctx, options.Conf) })
}
