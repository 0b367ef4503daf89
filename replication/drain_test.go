package replication

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// A watcher that fails hangs up for the receiver, which then ends without an error. The session still ends with one: Run reports it and tries again (F16, F22).
func TestHangingUpHasAReason(t *testing.T) {
	t.Parallel()
	l := &leader{receiver: &receiver{}, watch: &watcher{failed: make(chan error, 1)}}
	reason := errors.New("the connection broke")
	l.watch.failed <- reason
	if err := l.drain(t.Context()); !errors.Is(err, reason) {
		t.Errorf("the session ends with %v, want %v", err, reason)
	}
	if err := l.drain(t.Context()); err == nil {
		t.Error("the session ends without an error")
	}
}

// F7: asked to stop with a batch on its way to the cache and more behind it, the program finishes what is in hand and confirms it; the rest comes after the
// next start, and nothing is copied for it.
func TestStopWithABatchInHand(t *testing.T) {
	t.Parallel()
	b := small(t)
	b.neverAhead()
	b.cfg.IdleEvery = time.Hour // every write is that of a transaction
	r := b.start()
	b.equal()
	copies, before := b.sink.count("exact"), b.sink.position().Checkpoint
	applying, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.sink.hook(func(op string) (bool, error) {
		if op == "apply" {
			once.Do(func() { close(applying); <-goOn })
		}
		return true, nil
	})
	for i := range 20 {
		b.exec("UPDATE posthog_featureflag SET name = $1", fmt.Sprint("in hand or behind ", i))
	}
	<-applying
	r.cancel()
	close(goOn)
	r.stop()
	b.free() // by then the server has read what was confirmed last
	confirmed, checkpoint := b.confirmed(), b.sink.position().Checkpoint
	if checkpoint == before || confirmed != checkpoint {
		t.Errorf("the cache was at %s and is at %s, the slot has confirmed %s", before, checkpoint, confirmed)
	}
	b.sink.hook(nil)
	b.start()
	b.equal()
	if again := b.sink.count("exact"); again != copies {
		t.Errorf("a restart reconciled: %s", strings.Join(b.sink.history(), "; "))
	}
}
