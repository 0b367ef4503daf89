package replication

import (
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/change"
)

// A copy of an earlier position than what the cache shows, or than what was given back, is not used: it would go backwards or miss something (G3, G5).
func TestOvertakenCopyIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		with func(l *leader)
		kept bool
	}{
		"in time":                     {func(*leader) {}, true},
		"stream went on":              {func(l *leader) { l.checkpoint = 101 }, false},
		"not trusted, old checkpoint": {func(l *leader) { l.trusted, l.checkpoint = false, 101 }, true},
		"provisional fill is newer":   {func(l *leader) { l.fill = &filler{floor: 101} }, false},
		"an earlier copy broke off":   {func(l *leader) { l.floor = 101 }, false},
		"log was given back": {func(l *leader) {
			l.receiver.queue.discard()
			l.receiver.queue.push(item{position: 101})
		}, false},
	} {
		var received atomic.Int64
		cfg := Defaults()
		l := &leader{
			r: &Replicator{}, cfg: &cfg, log: zap.NewNop(), trusted: true, checkpoint: 90, alarm: time.NewTimer(time.Hour),
			receiver: newReceiver(newScriptedWAL(), &cfg, 50, time.Minute, &received),
			copying:  &copying{cancel: func() {}, held: true, ready: make(chan prepared, 1)},
		}
		test.with(l)
		l.copyConsistent(change.LSN(100))
		if kept := l.copying != nil; kept != test.kept {
			t.Errorf("%s: the copy is kept %t", name, kept)
		}
		if _, discarding := l.receiver.queue.lost(); discarding {
			t.Errorf("%s: what follows the point is thrown away", name)
		}
		if test.kept && (!l.copying.holds() || l.copying.consistentAt() != 100) {
			t.Errorf("%s: transactions behind the point are not held back", name)
		}
	}
}
