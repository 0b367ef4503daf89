package soak

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/everflag/everflag/cachewriter"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/redisconn"
	"github.com/everflag/everflag/internal/testenv"
	"github.com/everflag/everflag/replication"
)

// mutation is the damage that this build has been asked for: see .ci/mutate. The tag mutate has to be set, too.
const mutation = "EVERFLAG_MUTATE"

// tags are those that programs under test are built with.
func tags(more ...string) []string {
	if os.Getenv(mutation) != "" {
		more = append(more, "mutate")
	}
	return more
}

// tuning are the limits of a replicator.
type tuning struct {
	txBytes, queueBytes, batchBytes, batchTxs int
}

// within is a replicator that runs in this process. Its death is that of its connections, which is all that others can see of a kill -9.
type within struct {
	cancel context.CancelFunc
	ended  chan error
	log    *lockedBuffer
}

func startWithin(t *testing.T, pgURL, redisURL, prefix, slot string, tune tuning) *within {
	t.Helper()
	w := &within{ended: make(chan error, 1), log: &lockedBuffer{}}
	encoder := zap.NewDevelopmentEncoderConfig()
	encoder.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	log := zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(encoder), zapcore.AddSync(w.log), zap.DebugLevel))
	client, err := redisconn.Open(redisconn.Config{URL: redisURL, ReadTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	c := replication.Defaults()
	c.PostgresURL, c.Slot, c.Publication, c.CacheSchema = pgURL, slot, slot, flagcache.SchemaVersion
	c.CatalogEvery, c.IdleEvery, c.PeerTimeout, c.ProvisionalAfter = 100*time.Millisecond, 100*time.Millisecond, 3*time.Second, time.Second
	c.VerifyEvery = 0
	c.MaxTxBytes, c.QueueBytes, c.BatchBytes, c.BatchTxs = tune.txBytes, tune.queueBytes, tune.batchBytes, tune.batchTxs
	writer := cachewriter.New(cachewriter.Config{Client: client, Logger: log, Prefix: prefix, Timeout: time.Second})
	replicator, err := replication.New(c, writer, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go func() {
		err := replicator.Run(ctx)
		_ = client.Close() // what was written has been confirmed
		w.ended <- err
	}()
	return w
}

// stop ends it and returns why it had ended before, if it had.
func (w *within) stop() error {
	select {
	case err := <-w.ended:
		w.cancel()
		return err
	default:
	}
	w.cancel()
	return <-w.ended
}

func (w *within) logs() string { return w.log.String() }

// lockedBuffer can be written to and read at the same time.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// environment are the settings of the real program.
func environment(t *testing.T, pgURL, redisURL, prefix, slot string, more ...string) []string {
	t.Helper()
	return append([]string{
		"REPLICATOR_POSTGRES_URL=" + pgURL, "REPLICATOR_REDIS_URL=" + redisURL, "REPLICATOR_KEY_PREFIX=" + prefix, "REPLICATOR_SLOT=" + slot,
		"REPLICATOR_PUBLICATION=" + slot, mutation + "=" + os.Getenv(mutation),
	}, more...)
}

// outside is the real program.
type outside struct {
	t       *testing.T
	program *testenv.Program
}

func startOutside(t *testing.T, pgURL, redisURL, prefix, slot string) *outside {
	t.Helper()
	env := environment(t, pgURL, redisURL, prefix, slot, "REPLICATOR_CATALOG_EVERY=100ms", "REPLICATOR_ADMIN_ADDR=127.0.0.1:"+testenv.FreePort(t))
	return &outside{t, testenv.Run(t, testenv.Build(t, "cmd/replicator", tags()...), env)}
}

func (o *outside) stop() error {
	o.program.Kill(o.t)
	return nil
}

func (o *outside) logs() string { return strings.Join(o.program.Logs(), "\n") }
