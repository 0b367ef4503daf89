package store

import (
	"context"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/internal/flagcache"
)

// brokenRedis returns connections to a server that is gone: by turns they are closed, silent, and to one that loads its data.
func brokenRedis() func(context.Context, string, string) (net.Conn, error) {
	var n atomic.Int64
	return func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		switch n.Add(1) % 3 {
		case 0:
			_ = server.Close() // an end of a pipe closes without error
		case 1:
			go func() {
				command := make([]byte, 4096)
				for {
					if _, err := server.Read(command); err != nil {
						return
					}
					if _, err := server.Write([]byte("-LOADING Redis is loading the dataset in memory\r\n")); err != nil {
						return
					}
				}
			}()
		}
		return client, nil
	}
}

// F75, S1, S11: a day without Redis is a handful of lines, however often it is tried and in whichever ways it fails; and after it, what was in memory when it
// began is served as before.
func TestDayWithoutRedis(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a day takes ten seconds, and runs without -short")
	}
	file := filepath.Join(t.TempDir(), "snapshot")
	writeSome(t, file, flagcache.DefaultPrefix)
	synctest.Test(t, func(t *testing.T) {
		const day, atLeast, handful = 24 * time.Hour, 50_000, 20
		core, logs := observer.New(zap.InfoLevel)
		client := redis.NewClient(&redis.Options{
			Dialer: brokenRedis(), MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, DisableIdentity: true, // as redisconn sets them
			ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10, // for speed
		})
		s := New(Config{Client: client, SnapshotFile: file, Logger: zap.New(core)})
		ctx, cancel := context.WithTimeout(t.Context(), day)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		if records, lookup := s.Records("phc_7"); lookup != decide.Found || len(records.Flags) != 6 || !s.Position().Ready {
			t.Errorf("after a day: %v, ready %t", lookup, s.Position().Ready)
		}
		if _, lookup := s.Program("phc_7"); lookup != decide.Found {
			t.Errorf("after a day: %v", lookup)
		}
		attempts := testutil.ToFloat64(s.metrics.errors)
		t.Logf("%v attempts, %d lines", attempts, logs.Len())
		if attempts < atLeast {
			t.Errorf("only %v attempts failed, want %d", attempts, atLeast)
		}
		if n := logs.Len(); n == 0 || n > handful {
			t.Errorf("%d lines, want 1 to %d; they begin with %v", n, handful, logs.All()[:min(n, 2*handful)])
		}
	})
}
