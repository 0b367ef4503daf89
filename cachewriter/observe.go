package cachewriter

import (
	"context"
	"strings"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
)

// Observe reads what the cache says of itself. It writes nothing, needs no leadership and may be called by any goroutine.
func (w *Writer) Observe(ctx context.Context) (change.Observation, error) {
	meta, fields, err := w.readMeta(ctx)
	if err != nil {
		return change.Observation{}, err
	}
	position, err := positionOf(meta)
	if err != nil {
		return change.Observation{}, err
	}
	if position.Teams, err = w.countTeams(ctx); err != nil {
		return change.Observation{}, err
	}
	var pulse []string
	for _, name := range []string{
		flagcache.MetaOwner, flagcache.MetaEpoch, flagcache.MetaSeq, flagcache.MetaCheckpoint, flagcache.MetaHeartbeat, flagcache.MetaBeat,
	} {
		pulse = append(pulse, fields[name])
	}
	return change.Observation{Position: position, Pulse: strings.Join(pulse, " ")}, nil
}
