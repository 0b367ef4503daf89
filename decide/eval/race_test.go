//go:build race

package eval

// The race detector's instrumentation allocates where the compiler otherwise would not.
const instrumented = true
