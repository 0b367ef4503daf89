package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestNextDoublesWithinBounds(t *testing.T) { // S2
	b := Backoff{Min: 100 * time.Millisecond, Max: 2 * time.Second}
	full := b.Min
	for range 100 {
		if got := b.Next(); got > full || got < full/2 {
			t.Fatalf("Next = %v, want between %v and %v", got, full/2, full)
		}
		full = min(2*full, b.Max)
	}
	b.Reset()
	if got := b.Next(); got > b.Min {
		t.Errorf("Next after Reset = %v, want at most %v", got, b.Min)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{Min: time.Second, Max: time.Minute}
		start := time.Now()
		if err := b.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited < time.Second/2 || waited > time.Second {
			t.Errorf("waited %v", waited)
		}
		cause := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if err := b.Wait(ctx); !errors.Is(err, cause) {
			t.Errorf("Wait = %v, want the cause", err)
		}
	})
}
