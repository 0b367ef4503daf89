package replication

import (
	"sync"

	"github.com/everflag/everflag/internal/change"
)

// queue hands items from the receiver to the leader in order. It never refuses an item: the receiver looks at full and stops reading, so that the
// limit is exceeded by one transaction at most.
type queue struct {
	limit int // bytes

	readable chan struct{} // holds a token while there may be items
	writable chan struct{} // holds a token when space may have come free

	mu         sync.Mutex
	items      []item
	memory     int
	discarding bool
	discarded  change.LSN // end of what was discarded
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
}

// itemOverhead is what an item costs beyond its rows, about.
const itemOverhead = 256

// push appends an item. Of positions that follow each other only the last is kept.
func (q *queue) push(i item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.discarding {
		q.discarded = max(q.discarded, i.end())
		return
	}
	if n := len(q.items); i.tx == nil && n > 0 && q.items[n-1].tx == nil {
		i.urgent = i.urgent || q.items[n-1].urgent
		q.items[n-1] = i
	} else {
		q.items = append(q.items, i)
		q.memory += i.memory + itemOverhead
	}
	signal(q.readable)
}

// beyond reports whether the first item ends after the position: items are in order, so that nothing that ends before can follow.
func (q *queue) beyond(lsn change.LSN) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) > 0 && q.items[0].end() > lsn
}

// discard throws away all items, also those that will be pushed, until keep.
func (q *queue) discard() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.discarding = true
	if n := len(q.items); n > 0 {
		q.discarded = max(q.discarded, q.items[n-1].end())
		q.remove(n)
	}
	signal(q.writable)
}

// keep ends discard and returns the end of what is gone for ever; zero if nothing is.
func (q *queue) keep() change.LSN {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.discarding = false
	return q.discarded
}

// lost is what has been discarded so far.
func (q *queue) lost() (through change.LSN, discarding bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.discarded, q.discarding
}

func (q *queue) used() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.memory
}

func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.memory >= q.limit
}

func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) == 0
}

// take removes the items from the front that make up one batch and end at or before through: positions do not count, and the first transaction is taken
// whatever its size.
func (q *queue) take(maxTxs, maxBytes int, through change.LSN) []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, txs, bytes := 0, 0, 0
	for n < len(q.items) && q.items[n].end() <= through {
		if tx := q.items[n].tx; tx != nil {
			if txs > 0 && (txs == maxTxs || bytes+tx.Bytes > maxBytes) {
				break
			}
			txs++
			bytes += tx.Bytes
		}
		n++
	}
	return q.remove(n)
}

// dropThrough removes the transactions that end at or before the position.
func (q *queue) dropThrough(lsn change.LSN) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.items) && q.items[n].end() <= lsn {
		n++
	}
	q.remove(n)
	if len(q.items) > 0 {
		signal(q.readable) // take may have been told to leave them
	}
}

// remove takes n items from the front. The caller holds the lock.
func (q *queue) remove(n int) []item {
	removed := q.items[:n:n]
	for _, i := range removed {
		q.memory -= i.memory + itemOverhead
	}
	if n == len(q.items) {
		q.items = nil
	} else {
		q.items = q.items[n:]
		signal(q.readable)
	}
	if n > 0 {
		signal(q.writable)
	}
	return removed
}

// signal leaves a token without waiting.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
