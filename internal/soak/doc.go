// Package soak guarantees that the guarantees hold: it drives the real source, the real cache and the real programs through random histories with random
// failures, and holds every state that a reader could have seen against the history of what was committed.
//
// Three things are judged, all of them while everything runs:
//
//	the cache     every atomic look at Redis equals the tables as they were after some commit, and never an older one than the look before (G2, G3)
//	the log       what the slot has confirmed, the cache's checkpoint has reached (G4)
//	the answers   of decide are those of some committed state, never an error, never an empty set (G7, G8; TestSoak)
//
// and one whenever nothing is in flight: cache = SELECT (G1), by internal/oracle, which shares no code with the programs.
//
// TestModel runs random programs (pgregory.net/rapid), which shrink when they fail. TestSoak runs load and faults for as long as it is told. Both must fail
// with builds that are broken on purpose: .ci/mutate. docs/reliability.md tells how to run and read them.
package soak
