package cachewriter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
)

// load reads the position and the index of a cache that this process has just acquired.
func (w *Writer) load(ctx context.Context) (change.Position, error) {
	meta, fields, err := w.readMeta(ctx)
	if err != nil {
		return change.Position{}, err
	}
	position, err := positionOf(meta)
	if err != nil {
		return change.Position{}, err
	}
	w.checkpoint, w.marker, w.replacing = position.Checkpoint, position.Reconcile, fields[flagcache.MetaReconciling] != ""
	w.metrics.marked(w.marker)

	w.index = newIndex()
	loader := loader{w: w, index: w.index}
	if err := loader.run(ctx); err != nil {
		return change.Position{}, err
	}
	if loader.damage != "" {
		if err := w.Mark(ctx, loader.damage); err != nil {
			return change.Position{}, err
		}
	}
	w.metrics.indexed.Set(float64(w.index.rows()))
	position.Teams, position.Reconcile, position.Complete = loader.teams, w.marker, meta.Complete && w.marker == ""
	return position, nil
}

// readMeta returns the meta hash and its fields as they are.
func (w *Writer) readMeta(ctx context.Context) (meta flagcache.Meta, fields map[string]string, err error) {
	ctx, cancel := w.within(ctx)
	defer cancel()
	if fields, err = w.config.Client.HGetAll(ctx, w.keys.Meta).Result(); err != nil {
		return meta, nil, w.classify(ctx, "reading meta", err)
	}
	if meta, err = flagcache.ParseMeta(fields); err != nil {
		return meta, nil, fmt.Errorf("reading meta: %w", err)
	}
	return meta, fields, nil
}

func positionOf(meta flagcache.Meta) (p change.Position, err error) {
	p = change.Position{
		Source: change.Source{
			SystemID: meta.SystemID, Timeline: meta.Timeline, DatabaseOID: meta.DatabaseOID, PostmasterStart: fromMicros(meta.PostmasterStart),
			Slot: meta.Slot, Publication: meta.Publication, Fingerprint: meta.Fingerprint,
		},
		Schema: meta.Schema, Complete: meta.Complete && meta.Reconcile == "", Reconcile: meta.Reconcile,
	}
	if meta.Checkpoint == "" {
		return p, nil
	}
	if p.Checkpoint, err = change.ParseLSN(meta.Checkpoint); err != nil {
		return p, fmt.Errorf("reading meta: checkpoint: %w", err)
	}
	return p, nil
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// sourceFields are the fields of meta that name the source.
func sourceFields(s change.Source) []any {
	started := int64(0)
	if !s.PostmasterStart.IsZero() {
		started = s.PostmasterStart.UnixMicro()
	}
	return []any{
		flagcache.MetaSystemID, s.SystemID, flagcache.MetaTimeline, s.Timeline, flagcache.MetaDatabaseOID, s.DatabaseOID, flagcache.MetaSlot, s.Slot,
		flagcache.MetaPublication, s.Publication, flagcache.MetaPostmasterStart, started, flagcache.MetaFingerprint, s.Fingerprint,
	}
}

// loader fills an index from the cache. It reads field names only, and the records of children, which name their parents.
type loader struct {
	w      *Writer
	index  *index
	teams  int
	damage string // why the cache cannot be as its writer left it
}

const (
	scanCount    = 1000   // fields, teams or children asked for in one round trip
	fieldsAtOnce = 20_000 // fields of several teams read in one round trip; a team with more is read in pages
)

func (l *loader) run(ctx context.Context) error {
	err := l.w.scan(ctx, "reading tokens", l.w.keys.Tokens, func(token, team string) error {
		if id, err := strconv.ParseInt(team, 10, 64); err == nil {
			l.index.setToken(id, token)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var waiting []int64
	err = l.w.scan(ctx, "reading versions", l.w.keys.Teams, func(team, _ string) error {
		id, err := strconv.ParseInt(team, 10, 64)
		if err != nil {
			return nil // not ours
		}
		if waiting = append(waiting, id); len(waiting) < scanCount {
			return nil
		}
		defer func() { waiting = waiting[:0] }()
		return l.load(ctx, waiting)
	})
	if err != nil {
		return err
	}
	if err := l.load(ctx, waiting); err != nil {
		return err
	}
	l.teams, err = l.w.countTeams(ctx)
	return err
}

func (w *Writer) countTeams(ctx context.Context) (int, error) {
	ctx, cancel := w.within(ctx)
	defer cancel()
	n, err := w.config.Client.HLen(ctx, w.keys.Teams).Result()
	return int(n), w.classify(ctx, "counting teams", err)
}

func (l *loader) damaged(format string, args ...any) {
	if l.damage == "" {
		l.damage = fmt.Sprintf(format, args...)
	}
}

// load loads teams, as many in one round trip as their sizes allow.
func (l *loader) load(ctx context.Context, teams []int64) error {
	sizes, err := pipeline(ctx, l.w, "reading sizes of teams", teams, func(ctx context.Context, pipe redis.Pipeliner, team int64) *redis.IntCmd {
		return pipe.HLen(ctx, l.w.keys.Team(team))
	})
	if err != nil {
		return err
	}
	var group []int64
	fields := 0
	for i, team := range teams {
		n := int(sizes[i].Val())
		if n > fieldsAtOnce {
			if err := l.paged(ctx, team); err != nil {
				return err
			}
			continue
		}
		if fields += n; fields > fieldsAtOnce {
			if err := l.group(ctx, group); err != nil {
				return err
			}
			group, fields = group[:0], n
		}
		group = append(group, team)
	}
	return l.group(ctx, group)
}

// group loads small teams together.
func (l *loader) group(ctx context.Context, teams []int64) error {
	names, err := pipeline(ctx, l.w, "reading fields of teams", teams, func(ctx context.Context, pipe redis.Pipeliner, team int64) *redis.StringSliceCmd {
		return pipe.HKeys(ctx, l.w.keys.Team(team))
	})
	if err != nil {
		return err
	}
	var children []place
	for i, team := range teams {
		if len(names[i].Val()) == 0 {
			l.damaged("team %d is listed, and its key is missing", team)
		}
		children = l.fields(children, team, names[i].Val())
	}
	return l.link(ctx, children)
}

// paged loads one large team.
func (l *loader) paged(ctx context.Context, team int64) error {
	for cursor := "0"; ; {
		stepCtx, cancel := l.w.within(ctx)
		page, err := fieldsScript.Run(stepCtx, l.w.config.Client, []string{l.w.keys.Team(team)}, cursor).StringSlice()
		err = l.w.classify(stepCtx, "reading fields of a team", err)
		cancel()
		if err != nil {
			return err
		}
		if err := l.link(ctx, l.fields(nil, team, page[1:])); err != nil {
			return err
		}
		if cursor = page[0]; cursor == "0" {
			return nil
		}
	}
}

// fields takes a team's fields into the index and adds those whose parent is to be read.
func (l *loader) fields(children []place, team int64, names []string) []place {
	for _, name := range names {
		entity, key, known := flagcache.ParseField(name)
		if !known {
			continue
		}
		if key == "" {
			key = strconv.FormatInt(team, 10) // the primary key of a table with one row per team is the team's
		}
		r := row{entity, key}
		if _, isChild := childOf[entity]; isChild {
			children = append(children, place{team, r})
			continue
		}
		l.index.put(r, team, row{})
	}
	return children
}

// link takes children into the index.
func (l *loader) link(ctx context.Context, children []place) error {
	for len(children) > 0 {
		trip := children[:min(scanCount, len(children))]
		children = children[len(trip):]
		stored, err := l.w.fetch(ctx, trip)
		if err != nil {
			return err
		}
		for _, at := range trip {
			parent := parentIn(at.row.entity, stored[at.row])
			if parent.key == "" {
				l.damaged("%s %s of team %d names no parent", at.row.entity, at.row.key, at.team)
			}
			l.index.put(at.row, at.team, parent)
		}
	}
	return nil
}

// scan calls each for every field of a hash; a field that changes meanwhile may come twice.
func (w *Writer) scan(ctx context.Context, step, key string, each func(field, value string) error) error {
	for cursor := uint64(0); ; {
		stepCtx, cancel := w.within(ctx)
		page, next, err := w.config.Client.HScan(stepCtx, key, cursor, "", scanCount).Result()
		err = w.classify(stepCtx, step, err)
		cancel()
		if err != nil {
			return err
		}
		for i := 0; i+1 < len(page); i += 2 {
			if err := each(page[i], page[i+1]); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// pipeline runs one command per team in one round trip and looks at every reply.
func pipeline[C redis.Cmder](
	ctx context.Context, w *Writer, step string, teams []int64, command func(ctx context.Context, pipe redis.Pipeliner, team int64) C,
) ([]C, error) {
	if len(teams) == 0 {
		return nil, nil
	}
	ctx, cancel := w.within(ctx)
	defer cancel()
	pipe := w.config.Client.Pipeline()
	replies := make([]C, len(teams))
	for i, team := range teams {
		replies[i] = command(ctx, pipe, team)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, w.classify(ctx, step, err)
	}
	for _, reply := range replies {
		if err := reply.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return nil, w.classify(ctx, step, err)
		}
	}
	return replies, nil
}
