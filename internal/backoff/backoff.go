// Package backoff guarantees that retries spread out: the wait doubles from Min to Max with every failure, each shortened by a random part of up to
// half, so that many processes that lost one server do not return in step. It never sleeps by itself but in Wait.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff counts consecutive failures. Its methods are for one goroutine.
type Backoff struct {
	Min, Max time.Duration

	failures int
}

// Next returns how long to wait after another failure.
func (b *Backoff) Next() time.Duration {
	wait := b.Max
	// Beyond 30 doublings any Min has passed any Max that makes sense, and the shift would overflow.
	if b.failures < 30 {
		wait = min(b.Min<<b.failures, b.Max)
		b.failures++
	}
	return wait - rand.N(wait/2+1)
}

// Reset starts again at Min. Call it after progress, not after a mere connection.
func (b *Backoff) Reset() {
	b.failures = 0
}

// Wait waits for Next or until the context ends, and then returns its cause.
func (b *Backoff) Wait(ctx context.Context) error {
	timer := time.NewTimer(b.Next())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
