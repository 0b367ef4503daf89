package main

import (
	"os"
	"runtime/debug"
)

// garbageRoom is what may gather between two garbage collections beyond what Go lets gather, which is as much as is alive. That alone would collect a dozen times
// a second under load: a request leaves 4 kB, and most installations keep a few megabytes alive.
const garbageRoom = 32 << 20

// ballast is memory that is never touched, so that it is counted as alive but never becomes resident. A share of the heap that follows what is alive would do the
// same without it, but always one collection late: what a burst of large requests keeps alive would be multiplied by the share of the quiet time before.
//
//lint:ignore U1000 to be alive is all that it is for
var ballast []byte

// leaveRoomForGarbage gives the collector its room. GOGC has precedence, and where memory is so limited that the room would be felt, there is none: the limit
// counts the ballast, too.
func leaveRoomForGarbage() {
	if os.Getenv("GOGC") == "" && debug.SetMemoryLimit(-1) >= 8*garbageRoom {
		ballast = make([]byte, garbageRoom)
	}
}
