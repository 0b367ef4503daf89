package testenv_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/testenv"
)

// behind returns a Redis client that reaches an own server through a proxy, and one that does not.
func behind(t *testing.T) (*testenv.Flaky, *redis.Client, *redis.Client) {
	s := testenv.RedisServer(t, testenv.RedisOptions{})
	p := testenv.Proxy(t, s.Addr)
	options, err := redis.ParseURL(p.URL(s.URL))
	want(t, "reading the address", err)
	options.MaxRetries, options.PoolSize, options.ContextTimeoutEnabled = -1, 1, true
	through := redis.NewClient(options)
	t.Cleanup(func() { _ = through.Close() })
	want(t, "asking through the proxy", through.Ping(t.Context()).Err())
	return p, through, s.Client(t)
}

func ask(client *redis.Client, bound time.Duration, command ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	return client.Do(ctx, command...).Err()
}

func TestProxyCutRefusesAndRestores(t *testing.T) {
	t.Parallel()
	p, client, _ := behind(t)
	p.Cut()
	wantError(t, "asking on the cut connection", ask(client, soon, "PING"))
	err := ask(client, soon, "PING")
	wantError(t, "connecting anew", err)
	wantEqual(t, "open connections", p.Counts().Active, 0)
	p.Restore()
	testenv.Eventually(t, soon, func() error { return ask(client, soon, "PING") })
}

func TestProxyDropAcceptsAndCloses(t *testing.T) {
	t.Parallel()
	p, client, _ := behind(t)
	before := p.Counts().Accepted
	p.Drop()
	wantError(t, "asking on the reset connection", ask(client, soon, "PING"))
	wantError(t, "connecting anew", ask(client, soon, "PING"))
	testenv.Eventually(t, soon, func() error {
		n := p.Counts().Accepted
		return expect(n > before, "%d connections accepted", n)
	})
	p.Restore()
	testenv.Eventually(t, soon, func() error { return ask(client, soon, "PING") })
}

func TestProxyStallKeepsBytes(t *testing.T) {
	t.Parallel()
	p, client, direct := behind(t)
	p.Stall()
	done := make(chan error, 1)
	go func() { done <- ask(client, soon, "SET", "stalled", 1) }()
	select {
	case err := <-done:
		t.Fatalf("a command came through a stalled proxy: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	wantEqual(t, "keys on the server", direct.Exists(t.Context(), "stalled").Val(), 0)
	p.Restore()
	want(t, "the stalled command", <-done)
}

func TestProxyHalfCloseSwallowsAnswers(t *testing.T) {
	t.Parallel()
	p, client, direct := behind(t)
	p.HalfClose()
	wantError(t, "waiting for an answer", ask(client, 200*time.Millisecond, "SET", "half", 1))
	testenv.Eventually(t, soon, func() error {
		n := direct.Exists(t.Context(), "half").Val()
		return expect(n == 1, "%d keys on the server", n)
	})
	p.Restore()
	testenv.Eventually(t, soon, func() error { return ask(client, soon, "PING") })
}

func TestProxyDelays(t *testing.T) {
	t.Parallel()
	p, client, _ := behind(t)
	p.Delay(50 * time.Millisecond)
	start := time.Now()
	want(t, "asking", ask(client, soon, "PING"))
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("a round trip took %v with 50 ms each way", took)
	}
	p.Delay(0)
	start = time.Now()
	want(t, "asking", ask(client, soon, "PING"))
	if took := time.Since(start); took > soon/2 {
		t.Errorf("a round trip took %v without delay", took)
	}
}

func TestProxyCarriesPostgresAndCounts(t *testing.T) {
	t.Parallel()
	s := testenv.PostgresServer(t, testenv.PGOptions{})
	p := testenv.Proxy(t, s.Addr)
	address := p.URL(s.URL("postgres"))
	want(t, "connecting through the proxy", connect(address, soon))
	counts := p.Counts()
	if counts.Accepted == 0 || counts.ToServer == 0 || counts.ToClient == 0 {
		t.Errorf("counted %+v", counts)
	}
	s.Stop(t, "fast")
	wantError(t, "connecting through the proxy to nothing", connect(address, soon))
}

func TestProxyReachesUnixSockets(t *testing.T) {
	t.Parallel()
	p := testenv.Proxy(t, testenv.RedisServer(t, testenv.RedisOptions{Process: true}).Socket)
	client := redis.NewClient(&redis.Options{Addr: p.Addr})
	defer client.Close()
	want(t, "asking", client.Ping(t.Context()).Err())
}

// A large answer that is under way when the proxy is cut must not hang its reader.
func TestProxyCutBreaksTransfers(t *testing.T) {
	t.Parallel()
	p, client, direct := behind(t)
	want(t, "setting", direct.Set(t.Context(), "large", make([]byte, 64<<20), 0).Err())
	p.Delay(20 * time.Millisecond)
	done := make(chan error, 1)
	before := p.Counts().ToClient
	go func() { done <- ask(client, time.Minute, "GET", "large") }()
	testenv.Eventually(t, soon, func() error {
		n := p.Counts().ToClient - before
		return expect(n > 1<<10, "%d bytes", n)
	})
	p.Cut()
	select {
	case err := <-done:
		wantError(t, "reading on", err)
	case <-time.After(soon):
		t.Fatal(fmt.Errorf("the reader still hangs after %v", soon))
	}
}

func TestProxyRetargets(t *testing.T) {
	t.Parallel()
	p, client, first := behind(t)
	want(t, "setting", ask(client, soon, "SET", "where", "first"))
	second := testenv.RedisServer(t, testenv.RedisOptions{})
	p.Retarget(second.Addr)
	testenv.Eventually(t, soon, func() error { return ask(client, soon, "SET", "where", "second") }) // at first perhaps on the reset connection
	wantEqual(t, "the first server's value", first.Get(t.Context(), "where").Val(), "first")
	wantEqual(t, "the second server's value", second.Client(t).Get(t.Context(), "where").Val(), "second")
}
