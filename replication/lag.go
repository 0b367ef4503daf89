package replication

import (
	"time"

	"github.com/everflag/everflag/internal/change"
)

// lag measures how far the cache is behind in time, without a write to the source and by one clock: now and then the end of the log is read from the
// server, and once the cache has got there it is known to be no older than that moment (F74).
type lag struct {
	samples []sample // ends that the cache has not reached, oldest first
	caught  time.Time
}

type sample struct {
	at  time.Time
	end change.LSN
}

// maxSamples bounds memory: beyond it, every other sample goes, and the measure becomes coarser as it grows.
const maxSamples = 512

// observe notes that the log ended there at that time.
func (l *lag) observe(at time.Time, end change.LSN) {
	if len(l.samples) == maxSamples {
		kept := l.samples[:0]
		for i := 0; i < len(l.samples); i += 2 {
			kept = append(kept, l.samples[i])
		}
		l.samples = kept
	}
	l.samples = append(l.samples, sample{at: at, end: end})
}

// reach notes that the cache holds everything up to the position.
func (l *lag) reach(position change.LSN) {
	n := 0
	for n < len(l.samples) && l.samples[n].end <= position {
		l.caught = l.samples[n].at
		n++
	}
	l.samples = l.samples[:copy(l.samples, l.samples[n:])]
}

// behind is how old the state of the cache may be; known is false before it has caught up for the first time.
func (l *lag) behind(now time.Time) (age time.Duration, known bool) {
	if l.caught.IsZero() {
		return 0, false
	}
	return now.Sub(l.caught), true
}

// freshWithin is the greatest lag with which a heartbeat is written.
const freshWithin = 5 * time.Second

// fresh reports whether the cache follows its source closely.
func (l *lag) fresh(now time.Time) bool {
	age, known := l.behind(now)
	return known && age < freshWithin
}
