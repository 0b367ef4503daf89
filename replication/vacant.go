package replication

import (
	"context"
	"time"

	"github.com/everflag/everflag/internal/change"
)

// A leader moves the pulse of its cache every second.
const (
	vacantAfter = 3 * time.Second
	vacantEvery = 200 * time.Millisecond
)

// vacant refuses a cache that a replicator of another source writes now. Each would take it from the other for ever, and readers would be shown one source
// and then the other. A cache whose replicator is silent may be taken.
func (s *session) vacant(ctx context.Context) error {
	observer, ok := s.r.sink.(Observer)
	if !ok {
		return nil
	}
	first, err := observer.Observe(ctx)
	if err != nil || !foreign(first.Source, s.source) {
		return err
	}
	ticker := time.NewTicker(vacantEvery)
	defer ticker.Stop()
	for until := time.Now().Add(vacantAfter); time.Now().Before(until); {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		now, err := observer.Observe(ctx)
		if err != nil || !foreign(now.Source, s.source) {
			return err
		}
		if now.Pulse != first.Pulse {
			return refuse("another replicator writes this cache now, for slot %q of the database with OID %d of cluster %s: choose another --key-prefix, or stop it",
				now.Source.Slot, now.Source.DatabaseOID, now.Source.SystemID)
		}
	}
	return nil
}

// foreign reports a cache that was filled through another slot. Whoever shares ours is kept apart by the slot itself.
func foreign(cached, ours change.Source) bool {
	if cached.SystemID == "" {
		return false
	}
	return cached.SystemID != ours.SystemID || cached.DatabaseOID != ours.DatabaseOID || cached.Slot != ours.Slot
}
