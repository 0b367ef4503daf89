package store

import "time"

// breather keeps the follower's work from holding up requests. On one core the Go scheduler lets a goroutine run for ten milliseconds before it looks at
// who else has something to do, and sockets that became readable meanwhile are not noticed before.
type breather struct {
	since time.Time // when the work began, or went on
}

const (
	workSlice = 500 * time.Microsecond
	maxBreath = 2 * time.Millisecond
)

func newBreather() *breather { return &breather{since: time.Now()} }

// pause rests for as long as the work has taken, once it has taken a while. A single changed team never waits.
func (b *breather) pause() {
	worked := time.Since(b.since)
	if worked < workSlice {
		return
	}
	time.Sleep(min(worked, maxBreath))
	b.since = time.Now()
}
