package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/change"
)

// VerifyReport is the result of a comparison of cache and source.
type VerifyReport struct {
	Started     time.Time    `json:"started"`
	Finished    time.Time    `json:"finished"`
	Looks       int          `json:"looks"` // how often the source was compared until the result was certain
	Teams       int64        `json:"teams"`
	Rows        int64        `json:"rows"`
	Drift       int          `json:"drift"`                 // records that differ
	Differences []Difference `json:"differences,omitempty"` // the first of them
	Repaired    bool         `json:"repaired,omitempty"`
	Error       string       `json:"error,omitempty"` // the comparison could not be completed
}

// Difference is one record in which cache and source differ.
type Difference struct {
	Team   int64  `json:"team"`
	Entity string `json:"entity"`
	Key    string `json:"key,omitempty"`
	Detail string `json:"detail,omitempty"`
}

const (
	maxLooks       = 5                // a record that still differs as before in the last of them counts as drift
	maxDifferences = 100              // that a report names
	passWithin     = 30 * time.Second // for a cache that somebody else writes to follow its source; see Verify
)

// verifier compares by ordinary snapshots, while the stream goes on. A record may differ because a change is on its way: it counts as drift if it still
// differs from new snapshots that were taken after the stream had passed the ones before.
type verifier struct {
	cfg     *Config
	compare func(context.Context, change.Copy) ([]change.Difference, error)
	open    func(context.Context) (*snapshot, error)
	passed  func(context.Context, change.LSN) error // returns once the cache holds everything up to the position
}

func (v *verifier) run(ctx context.Context) (VerifyReport, error) {
	report := VerifyReport{Started: time.Now()}
	var suspects []change.Difference
	for report.Looks < maxLooks {
		found, at, err := v.look(ctx, &report)
		if err != nil {
			return report, err
		}
		report.Looks++
		if report.Looks == 1 {
			suspects = found
		} else {
			suspects = stillDiffering(suspects, found)
		}
		if len(suspects) == 0 {
			break
		}
		if err := v.passed(ctx, at); err != nil {
			return report, err
		}
	}
	report.Finished = time.Now()
	report.Drift = len(suspects)
	for _, d := range suspects[:min(len(suspects), maxDifferences)] {
		report.Differences = append(report.Differences, Difference{Team: d.Team, Entity: d.Entity, Key: d.Key, Detail: d.Detail})
	}
	return report, nil
}

// look compares once.
func (v *verifier) look(ctx context.Context, report *VerifyReport) ([]change.Difference, change.LSN, error) {
	snap, err := v.open(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer snap.close()
	report.Teams, report.Rows = 0, 0
	var found []change.Difference
	err = snap.giveWay(ctx, v.cfg, func(ctx context.Context) (err error) {
		found, err = v.compare(ctx, change.Copy{Source: snap.source, At: snap.at, Reason: "verify", Teams: snap.teams(ctx, func(teams, rows int) {
			report.Teams += int64(teams)
			report.Rows += int64(rows)
		})})
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("comparing cache and source: %w", err)
	}
	return found, snap.at, nil
}

// stillDiffering keeps the suspects that were found again as they were. A record that has changed meanwhile may differ by what is on its way now: a row that
// is written all the time differs at every look.
func stillDiffering(suspects, found []change.Difference) []change.Difference {
	type record struct {
		team        int64
		entity, key string
		state       uint64
	}
	again := map[record]bool{}
	for _, d := range found {
		again[record{d.Team, d.Entity, d.Key, d.State}] = true
	}
	var still []change.Difference
	for _, d := range suspects {
		if again[record{d.Team, d.Entity, d.Key, d.State}] {
			still = append(still, d)
		}
	}
	return still
}

// errNotPassed means that the stream does not move, so that nothing is on its way any more.
var errNotPassed = errors.New("the cache does not follow: is a replicator running?")

// pollUntil calls reached until it says true.
func pollUntil(ctx context.Context, every time.Duration, reached func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		ok, err := reached()
		if err != nil || ok {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Cache is what a verify without leadership needs.
type Cache interface {
	Observer
	Compare(ctx context.Context, c change.Copy) ([]change.Difference, error)
}

// Verify compares a cache with its source without leading. It writes nothing.
func Verify(ctx context.Context, cfg Config, cache Cache, log *zap.Logger) (VerifyReport, error) {
	s, err := openSession(ctx, &cfg, log)
	if err != nil {
		return VerifyReport{}, err
	}
	defer closeConn(s.query)
	c, err := readCatalog(ctx, s.query, s.server.version, cfg.Schema, cfg.Publication)
	if err != nil {
		return VerifyReport{}, err
	}
	if err := c.check(); err != nil {
		return VerifyReport{}, err
	}
	observed, err := cache.Observe(ctx)
	if err != nil {
		return VerifyReport{}, fmt.Errorf("reading the cache: %w", err)
	}
	if id := observed.Source.SystemID; id != "" && id != s.server.systemID {
		return VerifyReport{}, refuse("the cache mirrors the Postgres cluster with system identifier %s and this one has %s", id, s.server.systemID)
	}
	v := &verifier{
		cfg:     &cfg,
		compare: cache.Compare,
		open: func(ctx context.Context) (*snapshot, error) {
			return ordinarySnapshot(ctx, &cfg, len(c.tables), s.source, &s.server)
		},
		passed: func(ctx context.Context, at change.LSN) error {
			ctx, cancel := context.WithTimeoutCause(ctx, passWithin, errNotPassed)
			defer cancel()
			err := pollUntil(ctx, 100*time.Millisecond, func() (bool, error) {
				observed, err := cache.Observe(ctx)
				return err == nil && observed.Checkpoint >= at, err
			})
			if errors.Is(context.Cause(ctx), errNotPassed) {
				log.Warn("the cache does not follow its source: differences count as drift")
				return nil
			}
			return err
		},
	}
	return v.run(ctx)
}
