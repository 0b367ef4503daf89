package testenv

import (
	"testing"
	"time"
)

// Eventually calls condition every few milliseconds until it returns nil. It ends the test with the last error if that takes longer than timeout.
func Eventually(t testing.TB, timeout time.Duration, condition func() error) {
	t.Helper()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	ticker := time.NewTicker(3 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("not within %v: %v", timeout, err)
		case <-t.Context().Done():
			t.Fatalf("the test ended first: %v", err)
		case <-ticker.C:
		}
	}
}
