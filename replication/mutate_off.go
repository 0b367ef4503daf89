//go:build !mutate

package replication

// mutated is false in every build but those with the tag mutate, which exist to show that the tests notice; the compiler then drops what it guards.
func mutated(string) bool { return false }
