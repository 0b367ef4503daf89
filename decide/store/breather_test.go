package store

import (
	"testing"
	"testing/synctest"
	"time"
)

// Long work rests for as long as it took, so that requests get half of a core; a short piece does not.
func TestBreather(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ work, rest time.Duration }{
		{workSlice - 1, 0},
		{workSlice, workSlice},
		{time.Second, maxBreath}, // a pause of the process is no work
	} {
		synctest.Test(t, func(t *testing.T) {
			work := newBreather()
			time.Sleep(test.work)
			start := time.Now()
			work.pause()
			if rest := time.Since(start); rest != test.rest {
				t.Errorf("after %v it rested for %v, want %v", test.work, rest, test.rest)
			}
			start = time.Now()
			if work.pause(); time.Since(start) != 0 && test.rest > 0 {
				t.Error("it rested again without having worked")
			}
		})
	}
}
