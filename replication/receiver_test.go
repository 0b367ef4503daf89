package replication

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everflag/everflag/internal/change"
)

// scriptedWAL is a walConn whose other end is the test.
type scriptedWAL struct {
	incoming chan []byte
	woken    chan struct{}
	deadline time.Time
	statuses chan status
	asked    func(status) // called for every status
}

type status struct {
	at         time.Time
	position   change.LSN
	wantsReply bool
}

func newScriptedWAL() *scriptedWAL {
	return &scriptedWAL{incoming: make(chan []byte, 100), woken: make(chan struct{}, 1), statuses: make(chan status, 10_000)}
}

func (w *scriptedWAL) Arm(deadline time.Time) { w.deadline = deadline }
func (w *scriptedWAL) Wake()                  { signal(w.woken) }
func (w *scriptedWAL) Close()                 { close(w.statuses) }

func (w *scriptedWAL) Receive() ([]byte, error) {
	timer := time.NewTimer(time.Until(w.deadline))
	defer timer.Stop()
	select {
	case message, open := <-w.incoming:
		if !open {
			return nil, errors.New("the other end is gone")
		}
		return message, nil
	case <-w.woken:
	case <-timer.C:
	}
	return nil, errQuiet
}

func (w *scriptedWAL) Status(position change.LSN, reply bool) error {
	if position == 0 {
		return errNoPosition
	}
	s := status{at: time.Now(), position: position, wantsReply: reply}
	w.statuses <- s
	if w.asked != nil {
		w.asked(s)
	}
	return nil
}

// receiving runs a receiver over a script, in a bubble with a clock of its own.
func receiving(t *testing.T, cfg Config, script func(t *testing.T, v *receiver, w *scriptedWAL)) {
	synctest.Test(t, func(t *testing.T) {
		w := newScriptedWAL()
		var received atomic.Int64
		v := newReceiver(w, &cfg, 50, time.Minute, &received)
		go v.run()
		script(t, v, w)
		v.stop()
	})
}

// wait lets virtual time pass.
func wait(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

// last is the newest status.
func (w *scriptedWAL) last() (s status) {
	for {
		select {
		case s = <-w.statuses:
		default:
			return s
		}
	}
}

// F5, F14, F15: what is received is not acknowledged before the cache has it, whatever positions the server names.
func TestReceiverAcknowledgesWhatIsApplied(t *testing.T) {
	t.Parallel()
	receiving(t, Defaults(), func(t *testing.T, v *receiver, w *scriptedWAL) {
		for _, m := range []wire{flagRelation(), beginMsg(1, 100), insertMsg("1", "a", null, "{}", "1", "f")} {
			w.incoming <- m.xlog()
		}
		w.incoming <- keepaliveMsg(90, false) // within the transaction
		w.incoming <- commitMsg(100, 140).xlog()
		w.incoming <- keepaliveMsg(200, false)
		wait(5 * time.Second)
		if s := w.last(); s.position != 50 {
			t.Errorf("acknowledged %s", s.position)
		}
		items := v.queue.take(10, 1<<20, ^change.LSN(0))
		if len(items) != 2 || items[0].end() != 140 || items[1].position != 200 {
			t.Errorf("queued %+v", items)
		}
		v.confirm(140, false)
		wait(2 * time.Second)
		if s := w.last(); s.position != 140 {
			t.Errorf("acknowledged %s, want 140", s.position)
		}
	})
}

// F18: a full queue stops the reading, never the statuses.
func TestReceiverKeepsTalkingWhileFull(t *testing.T) {
	t.Parallel()
	cfg := Defaults()
	cfg.QueueBytes = 1
	receiving(t, cfg, func(t *testing.T, v *receiver, w *scriptedWAL) {
		w.incoming <- keepaliveMsg(100, false)
		wait(time.Second)
		w.incoming <- keepaliveMsg(110, false)
		w.incoming <- keepaliveMsg(120, false)
		w.last()
		wait(10 * time.Minute)
		if left := len(w.incoming); left != 2 {
			t.Errorf("%d messages are left", left)
		}
		if n := len(w.statuses); n < 500 {
			t.Errorf("%d statuses in ten minutes", n)
		}
	})
}

// F22: a requested reply goes out as soon as the cache has confirmed what was asked about.
func TestReceiverRepliesAtOnce(t *testing.T) {
	t.Parallel()
	receiving(t, Defaults(), func(t *testing.T, v *receiver, w *scriptedWAL) {
		wait(1500 * time.Millisecond)
		began := time.Now()
		w.last()
		w.incoming <- keepaliveMsg(300, true)
		synctest.Wait()
		if items := v.queue.take(10, 1, ^change.LSN(0)); len(items) != 1 || !items[0].urgent {
			t.Errorf("queued %+v", items)
		}
		v.confirm(300, true)
		synctest.Wait()
		if s := w.last(); s.position != 300 || !s.at.Equal(began) || s.wantsReply {
			t.Errorf("replied %+v", s)
		}
	})
}

// F22: a server that asks again and again, while the cache is behind, is let go.
func TestReceiverLetsAStoppingServerGo(t *testing.T) {
	t.Parallel()
	receiving(t, Defaults(), func(t *testing.T, v *receiver, w *scriptedWAL) {
		synctest.Wait()
		w.asked = func(s status) {
			if s.position < 300 && !s.wantsReply {
				w.incoming <- keepaliveMsg(300, true) // as a walsender does that wants to end
			}
		}
		w.incoming <- keepaliveMsg(300, true)
		began := time.Now()
		<-v.done
		if !errors.Is(v.err, errStopping) || time.Since(began) > time.Second {
			t.Errorf("ended with %v after %s", v.err, time.Since(began))
		}
	})
}

// F17: silence ends the connection, and so does the other end.
func TestReceiverNoticesSilence(t *testing.T) {
	t.Parallel()
	receiving(t, Defaults(), func(t *testing.T, v *receiver, w *scriptedWAL) {
		wait(30 * time.Second)
		w.incoming <- keepaliveMsg(100, false)
		began := time.Now()
		<-v.done
		if took := time.Since(began); !errors.Is(v.err, errSilent) || took < time.Minute || took > 62*time.Second {
			t.Errorf("ended with %v after %s", v.err, took)
		}
	})
	receiving(t, Defaults(), func(t *testing.T, v *receiver, w *scriptedWAL) {
		close(w.incoming)
		<-v.done
		if v.err == nil {
			t.Error("ended without an error")
		}
	})
}

// Malformed messages end the stream; nothing is skipped (F76).
func TestReceiverRefusesMalformed(t *testing.T) {
	t.Parallel()
	for _, message := range [][]byte{{}, {'?'}, {copyXLogData, 1}, {copyKeepalive, 1}, wire{'?'}.xlog()} {
		receiving(t, Defaults(), func(t *testing.T, v *receiver, w *scriptedWAL) {
			w.incoming <- message
			<-v.done
			if !errors.Is(v.err, errMalformed) {
				t.Errorf("%q ended with %v", message, v.err)
			}
		})
	}
}

// G5: log that is given back is acknowledged as it is received, and nothing of it is kept.
func TestReceiverReleases(t *testing.T) {
	t.Parallel()
	receiving(t, Defaults(), func(t *testing.T, v *receiver, w *scriptedWAL) {
		w.incoming <- keepaliveMsg(100, false)
		synctest.Wait()
		v.release()
		w.incoming <- keepaliveMsg(200, false)
		wait(2 * time.Second)
		if s := w.last(); s.position != 200 || !v.queue.empty() {
			t.Errorf("acknowledged %s", s.position)
		}
		if lost := v.queue.keep(); lost != 200 {
			t.Errorf("lost through %s", lost)
		}
		w.incoming <- keepaliveMsg(300, false)
		wait(2 * time.Second)
		if s := w.last(); s.position != 200 || v.queue.empty() {
			t.Errorf("acknowledged %s after the release has ended", s.position)
		}
	})
}
