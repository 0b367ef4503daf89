package decide

import (
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	maxLargeBodies    = 128 // of up to maxWireBody
	maxInflatedBodies = 4   // of up to maxInflatedBody, once more as text
)

// errCrowded is a large body when there is no place for one more.
var errCrowded = errors.New("too many large request bodies at once")

// room bounds the memory that bodies take together which are larger than keptBuffer. The small ones are bounded by the number of connections, and that of
// large ones by nothing else: what is sent slowly takes no slot of the concurrency limit, and a body of 8 MiB may arrive as 8 kB.
type room struct {
	large    atomic.Int64  // bodies that are read, or held while they are worked on
	inflated chan struct{} // one element for each that is inflated beyond keptBuffer, or from LZ64
	turned   prometheus.Counter
}

func newRoom(turned prometheus.Counter) *room {
	return &room{inflated: make(chan struct{}, maxInflatedBodies), turned: turned}
}

// enter takes a place for a large body if there is one. It does not wait: who has a place may be a client that sends slowly.
func (r *room) enter(b *body) bool {
	if r.large.Add(1) > maxLargeBodies {
		r.large.Add(-1)
		r.turned.Inc()
		return false
	}
	b.isLarge = true
	return true
}

// await takes a place for an inflated body. It may wait: who has a place waits for nothing but a processor.
func (r *room) await(b *body) {
	r.inflated <- struct{}{}
	b.isInflated = true
}

// leave gives back what the body has taken.
func (r *room) leave(b *body) {
	if b.isLarge {
		r.large.Add(-1)
	}
	if b.isInflated {
		<-r.inflated
	}
	b.isLarge, b.isInflated = false, false
}
