package pages

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Recent remembers what happened last, so that a page tells what happened while nobody looked. It is safe for concurrent use.
type Recent[T any] struct {
	mu    sync.Mutex
	items []T // the newest first
}

// Add notes an item and forgets the oldest, if it is one too many.
func (r *Recent[T]) Add(item T, most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.items = slices.Insert(r.items[:min(len(r.items), most-1)], 0, item)
}

// All returns a copy, the newest first.
func (r *Recent[T]) All() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.items)
}

// Follow looks at once and at each interval, until the context ends.
func Follow(ctx context.Context, every time.Duration, look func()) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		look()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
