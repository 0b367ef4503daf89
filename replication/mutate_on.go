//go:build mutate

package replication

import "os"

// mutated reports whether the environment asks for this kind of damage: early_ack.
func mutated(kind string) bool { return os.Getenv("EVERFLAG_MUTATE") == kind }
