package testenv

import (
	"context"
	"net/url"
	"testing"

	"github.com/redis/go-redis/v9"
)

// KeySpace is a part of the shared Redis that belongs to one test.
type KeySpace struct {
	// URL names a logical database of the test's own, so that FLUSHDB harms nobody. Only if TEST_REDIS_URL names the server is the database shared, and
	// the prefix all that keeps tests apart.
	URL string

	// Prefix is unique; keys that start with it are removed when the test ends.
	Prefix string

	Addr string // host:port of the server, e.g. for Proxy
}

// Redis returns an empty key space on the server that all tests of this process share.
func Redis(t testing.TB) *KeySpace {
	t.Helper()
	shared, err := sharedRedis()
	require(t, err)
	address, err := url.Parse(shared.url)
	if err != nil {
		t.Fatalf("reading the address of Redis: %v", err)
	}
	space := &KeySpace{URL: shared.url, Prefix: uniqueName(t), Addr: address.Host}
	if shared.slots == nil {
		t.Cleanup(func() { space.removeKeys(t) })
		return space
	}
	select {
	case n := <-shared.slots:
		space.URL = shared.own.URL(n)
		t.Cleanup(func() {
			space.removeKeys(t)
			shared.slots <- n
		})
	default:
		t.Fatalf("all %d logical databases of the shared Redis are in use by running tests", cap(shared.slots))
	}
	return space
}

// Client returns a client, closed when the test ends.
func (s *KeySpace) Client(t testing.TB) *redis.Client {
	t.Helper()
	return newClient(t, s.URL)
}

func newClient(t testing.TB, address string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(address)
	if err != nil {
		t.Fatalf("reading the address of Redis: %v", err)
	}
	options.ContextTimeoutEnabled = true // else a frozen server holds the test for the read timeout times the retries
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() }) // closing twice, once in the test and once here, is an error and harmless
	return client
}

// removeKeys empties the key space: the whole database if it is the test's own, else what carries the prefix.
func (s *KeySpace) removeKeys(t testing.TB) {
	t.Helper()
	step(t, "emptying the key space", func(ctx context.Context) error {
		options, err := redis.ParseURL(s.URL)
		if err != nil {
			return err
		}
		client := redis.NewClient(options)
		defer client.Close()
		if shared, err := sharedRedis(); err == nil && shared.slots != nil {
			return client.FlushDB(ctx).Err()
		}
		for iterator := client.Scan(ctx, 0, s.Prefix+"*", 1000).Iterator(); ; {
			if !iterator.Next(ctx) {
				return iterator.Err()
			}
			if err := client.Unlink(ctx, iterator.Val()).Err(); err != nil {
				return err
			}
		}
	})
}
