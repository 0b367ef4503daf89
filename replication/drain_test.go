package replication

import (
	"errors"
	"testing"
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
