package replication

import "slices"

var (
	_ Sink     = (*fakeSink)(nil)
	_ Observer = (*fakeSink)(nil)
)

// count is how often an operation was called.
func (f *fakeSink) count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// history lists marks and reconciles.
func (f *fakeSink) history() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.cache.history)
}
