package replication

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/killpoint"
)

// errStopping means that the server wants to shut down and waits for a confirmation that we cannot give, because the cache is behind (F22).
var errStopping = errors.New("the server waits for us in order to stop: disconnected, so that it can")

// errSilent means that the server did not answer for PeerTimeout (F17).
var errSilent = errors.New("the server did not answer")

// How the receiver keeps in touch with the server.
const (
	statusEvery  = time.Second            // every status asks for a reply: a sign of life, and the server's position
	replyWithin  = 150 * time.Millisecond // a requested reply waits that long for the cache to confirm what was asked about
	partWithin   = 500 * time.Millisecond // for the reply to the last status
	stormOf      = 5                      // requests within stormWithin mean that the server is stopping; healthy ones are half a minute apart
	stormWithin  = time.Second
	pausedStatus = 100 * time.Millisecond
)

// receiver owns a replication connection: it alone receives and sends on it, so that the server gets its statuses however slow the cache is. What it
// has received goes into the queue; what may be acknowledged comes back through applied.
type receiver struct {
	conn     walConn
	queue    *queue
	clock    func() time.Time
	timeouts struct{ status, peer time.Duration }

	// Set by others.
	applied atomic.Uint64 // position that the cache holds
	stopped atomic.Bool
	hurried atomic.Bool // what the cache holds is acknowledged without delay
	poked   atomic.Bool // a status is due at once
	woken   chan struct{}

	// For others to read.
	acknowledged atomic.Uint64 // what the last status said
	foresight    foresight
	done         chan struct{} // closed when run has returned
	err          error         // of run; to be read after done

	// Owned by run.
	assembler  *assembler
	progress   *progress
	nextStatus time.Time
	alive      bool          // something was received since attend looked
	heard      time.Time     // when attend last knew of something received
	requests   []time.Time   // for replies, within stormWithin
	asked      change.LSN    // position that a requested reply should confirm
	replyBy    time.Time     // zero if no reply is due
	bytes      *atomic.Int64 // received
}

func newReceiver(conn walConn, cfg *Config, confirmed change.LSN, senderTimeout time.Duration, received *atomic.Int64) *receiver {
	v := &receiver{
		conn:      conn,
		queue:     newQueue(cfg.QueueBytes),
		clock:     time.Now,
		woken:     make(chan struct{}, 1),
		done:      make(chan struct{}),
		assembler: newAssembler(cfg.Schema, cfg.MaxTxBytes),
		progress:  newProgress(confirmed, cfg.AckDelay),
		bytes:     received,
		foresight: foresight{found: make(chan oversized, 1)},
	}
	v.timeouts.status = statusEvery
	if senderTimeout > 0 {
		v.timeouts.status = min(statusEvery, senderTimeout/4)
	}
	v.timeouts.peer = cfg.PeerTimeout
	return v
}

// confirm notes that the cache holds everything up to the position. now asks for a status at once.
func (v *receiver) confirm(position change.LSN, now bool) {
	v.applied.Store(uint64(position))
	if now {
		v.wake()
	}
}

// release lets the source have its log back: from now on everything that is received counts as confirmed and nothing is kept (G5).
func (v *receiver) release() {
	v.queue.discard()
	v.wake()
}

// poke asks the server for its position at once.
func (v *receiver) poke() {
	v.poked.Store(true)
	v.wake()
}

// stop ends run after a last status.
func (v *receiver) stop() {
	v.hangUp()
	<-v.done
}

// hangUp is stop without waiting.
func (v *receiver) hangUp() {
	v.stopped.Store(true)
	v.wake()
}

func (v *receiver) wake() {
	signal(v.woken)
	v.conn.Wake()
}

// run receives until it is stopped or the connection ends, and closes the connection.
func (v *receiver) run() {
	v.heard = v.clock()
	err := v.loop()
	if v.stopped.Load() {
		v.note(v.clock())
		// A crash before this status leaves the slot behind the cache: transactions come again and are dropped by their position.
		if v.conn.Status(v.progress.acknowledge(v.clock()), true) == nil { // the connection may be what made us stop
			v.parting()
		}
	}
	v.conn.Close()
	v.err = err
	close(v.done)
}

// parting waits, within bounds, for the reply to the last status. A connection that is closed with something unread is reset, and the server then drops what it has not read
// itself: the status, and with it a batch that the next start would get again (F7).
func (v *receiver) parting() {
	for end := v.clock().Add(partWithin); v.clock().Before(end); {
		v.conn.Arm(end)
		payload, err := v.conn.Receive()
		if err != nil && !errors.Is(err, errQuiet) || len(payload) > 0 && payload[0] == copyKeepalive {
			return
		}
	}
}

func (v *receiver) loop() error {
	for !v.stopped.Load() {
		now := v.clock()
		if err := v.attend(now); err != nil {
			return err
		}
		if v.queue.full() || v.resting() {
			v.pause(now)
			continue
		}
		v.conn.Arm(v.due())
		select {
		case <-v.woken: // between Arm and Receive nothing is lost: a later Wake moves the deadline that Arm set
			continue
		default:
		}
		if err := v.receive(); err != nil {
			return err
		}
	}
	return nil
}

// attend sends a status if one is due and gives up on a silent server.
func (v *receiver) attend(now time.Time) error {
	v.note(now)
	if v.alive {
		v.alive, v.heard = false, now
	}
	v.progress.hurried = v.hurried.Load()
	acknowledge := v.progress.acknowledge(now)
	reply := !v.replyBy.IsZero() && (acknowledge >= v.asked || !now.Before(v.replyBy))
	if poked := v.poked.Swap(false); !poked && !reply && now.Before(v.nextStatus) {
		return nil
	}
	if now.Sub(v.heard) > v.timeouts.peer {
		return fmt.Errorf("%w for %s", errSilent, v.timeouts.peer)
	}
	if err := v.conn.Status(acknowledge, !reply); err != nil {
		return err
	}
	v.acknowledged.Store(uint64(acknowledge))
	if reply {
		v.replyBy = time.Time{}
	}
	v.nextStatus = now.Add(v.timeouts.status)
	return nil
}

// note takes over what the cache has confirmed.
func (v *receiver) note(now time.Time) {
	applied := change.LSN(v.applied.Load())
	if lost, discarding := v.queue.lost(); discarding {
		applied = max(applied, lost)
	}
	if applied != 0 {
		v.progress.apply(applied, now)
	}
}

// due is when attend has to be called again at the latest.
func (v *receiver) due() time.Time {
	if !v.replyBy.IsZero() && v.replyBy.Before(v.nextStatus) {
		return v.replyBy
	}
	return v.nextStatus
}

// pause waits while the queue is full, or a copy makes reading on pointless. Statuses go on; the server's silence means nothing while nobody listens.
func (v *receiver) pause(now time.Time) {
	timer := time.NewTimer(min(pausedStatus, v.timeouts.status))
	defer timer.Stop()
	select {
	case <-v.queue.writable:
	case <-v.woken:
	case <-timer.C:
	}
	v.heard = now
}

// receive handles messages until none is there or something else is due.
func (v *receiver) receive() error {
	for !v.stopped.Load() {
		payload, err := v.conn.Receive()
		if errors.Is(err, errQuiet) {
			return nil
		}
		if err != nil {
			return err
		}
		v.bytes.Add(int64(len(payload)))
		v.alive = true
		again, err := v.message(payload)
		if err != nil {
			return err
		}
		if !again {
			return nil
		}
	}
	return nil
}

// message handles one CopyData payload; again is false if something is due before the next one.
func (v *receiver) message(payload []byte) (again bool, err error) {
	if len(payload) == 0 {
		return false, fmt.Errorf("%w: empty CopyData", errMalformed)
	}
	switch payload[0] {
	case copyXLogData:
		data, err := xlogPayload(payload)
		if err != nil {
			return false, err
		}
		done, ok, err := v.assembler.handle(data)
		if err != nil {
			return false, err
		}
		v.foresee()
		if !ok {
			return !v.resting(), nil
		}
		killpoint.Hit(killpoint.Read)
		done.received = v.clock()
		v.queue.push(done)
		if mutated("early_ack") {
			v.progress.apply(done.end(), v.clock())
			v.nextStatus = time.Time{}
		}
		return !v.queue.full(), nil
	case copyKeepalive:
		k, err := decodeKeepalive(payload[1:])
		if err != nil {
			return false, err
		}
		return false, v.keepalive(k, v.clock())
	}
	return false, fmt.Errorf("%w: CopyData of kind %q", errMalformed, payload[0])
}

// keepalive queues the server's position behind everything that was received before, so that it is acknowledged after that (F5, F12).
func (v *receiver) keepalive(k keepalive, now time.Time) error {
	if k.walEnd != 0 && !v.assembler.inTransaction() {
		v.queue.push(item{position: k.walEnd, urgent: k.replyRequested, received: now})
	}
	if _, discarding := v.queue.lost(); discarding {
		v.asked, v.replyBy = k.walEnd, now // every position counts: the server is short of room
	}
	if !k.replyRequested {
		return nil
	}
	v.asked = k.walEnd
	if v.replyBy.IsZero() {
		v.replyBy = now.Add(replyWithin)
	}
	kept := v.requests[:0]
	for _, at := range v.requests {
		if now.Sub(at) < stormWithin {
			kept = append(kept, at)
		}
	}
	v.requests = append(kept, now)
	if len(v.requests) >= stormOf && v.progress.acknowledged < v.asked {
		return errStopping
	}
	return nil
}
