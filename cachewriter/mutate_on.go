//go:build mutate

package cachewriter

import "os"

// mutated reports whether the environment asks for this kind of damage: lost_update, missed_delete or half_transaction.
func mutated(kind string) bool { return os.Getenv("EVERFLAG_MUTATE") == kind }
