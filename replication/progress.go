package replication

import (
	"time"

	"github.com/everflag/everflag/internal/change"
)

// progress decides what may be acknowledged: nothing but positions that the server itself named and that the cache holds, never less than before and
// never zero. It is owned by the receiver.
type progress struct {
	acknowledged change.LSN
	delay        time.Duration
	hurried      bool // no delay for now: too much log is retained

	// applied positions that are younger than delay, oldest first.
	waiting []appliedAt
}

type appliedAt struct {
	lsn change.LSN
	at  time.Time
}

// newProgress starts at the position that the slot has confirmed, so that a status that is due before anything was applied changes nothing.
func newProgress(confirmed change.LSN, delay time.Duration) *progress {
	return &progress{acknowledged: confirmed, delay: delay}
}

// apply notes that the cache holds everything up to the position.
func (p *progress) apply(lsn change.LSN, now time.Time) {
	if n := len(p.waiting); n > 0 && lsn <= p.waiting[n-1].lsn {
		return
	}
	if lsn <= p.acknowledged {
		return
	}
	if len(p.waiting) == maxWaiting { // the newer one is acknowledged a little later than it could be
		p.waiting[maxWaiting-1].lsn = lsn
		p.waiting[maxWaiting-1].at = now
		return
	}
	p.waiting = append(p.waiting, appliedAt{lsn: lsn, at: now})
}

// maxWaiting bounds the memory of a long delay: positions are noted at most once per status, so this is over a quarter of an hour.
const maxWaiting = 1024

// acknowledge is the position for the next status.
func (p *progress) acknowledge(now time.Time) change.LSN {
	due := 0
	for due < len(p.waiting) && (p.hurried || now.Sub(p.waiting[due].at) >= p.delay) {
		p.acknowledged = p.waiting[due].lsn
		due++
	}
	p.waiting = p.waiting[:copy(p.waiting, p.waiting[due:])]
	return p.acknowledged
}
