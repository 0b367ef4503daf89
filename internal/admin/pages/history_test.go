package pages

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestRecent(t *testing.T) {
	t.Parallel()
	var r Recent[int]
	for i := range 5 {
		before := r.All()
		r.Add(i, 3)
		if len(before) > 0 && before[0] != i-1 {
			t.Errorf("a copy changed to %d", before)
		}
	}
	if got := r.All(); !slices.Equal(got, []int{4, 3, 2}) {
		t.Errorf("it remembers %d", got)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		looked := 0
		Follow(ctx, time.Second, func() { looked++ })
		if looked != 4 { // one at once
			t.Errorf("it looked %d times", looked)
		}
	})
}
