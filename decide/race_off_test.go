//go:build !race

package decide

// raceEnabled: the race detector makes sync.Pool forget at random, so allocations say nothing then.
const raceEnabled = false
