package cachewriter

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
)

// reconciliation makes the cache equal to one copy, in place: readers see every team either as it was or as it is in the copy, never without.
type reconciliation struct {
	w      *Writer
	copy   change.Copy
	index  *index // of the copy; becomes the writer's when the copy is in the cache
	cached *cached
	result change.ReconcileResult
	last   string    // name of the last step in the cache. Steps leave the checkpoint, so that only their names tell whether it is still what they made of it
	beat   time.Time // of the last sign of work
}

// Reconcile makes the cache equal to the copy. Its caller logs the result.
func (w *Writer) Reconcile(ctx context.Context, c change.Copy) (change.ReconcileResult, error) {
	if w.owner == "" {
		return change.ReconcileResult{}, fmt.Errorf("reconciling: not acquired: %w", change.ErrFenced)
	}
	return w.reconcile(ctx, c)
}

func (w *Writer) reconcile(ctx context.Context, c change.Copy) (change.ReconcileResult, error) {
	if err := w.resend(ctx); err != nil {
		return change.ReconcileResult{}, err
	}
	last, err := w.note(ctx, "beginning a reconcile", working, cmp.Or(c.Reason, "unnamed reason")) // before anything is read
	if err != nil {
		return change.ReconcileResult{}, err
	}
	cached, err := w.readCached(ctx)
	if err != nil {
		return change.ReconcileResult{}, err
	}
	r := &reconciliation{w: w, copy: c, index: newIndex(), cached: cached, last: last, beat: time.Now()}
	if err := w.compareTeams(ctx, c.Teams, r.replace); err != nil {
		return r.result, err
	}
	if err := r.removeGone(ctx); err != nil {
		return r.result, err
	}
	if c.Exact {
		if err := r.finish(ctx); err != nil {
			return r.result, err
		}
	}
	w.index = r.index
	w.metrics.indexed.Set(float64(w.index.rows()))
	return r.result, nil
}

// replace writes those of a group of teams that differ, in one script.
func (r *reconciliation) replace(ctx context.Context, group []*comparison) error {
	if now := time.Now(); now.Sub(r.beat) >= time.Second {
		if err := r.w.Beat(ctx, false); err != nil { // nobody else can, and a stand-by must not take a long reconcile for a frozen leader
			return err
		}
		r.beat = now
	}
	var teams []*teamOps
	var tokens []tokenOp
	for _, c := range group {
		r.result.Teams++
		r.result.Rows += len(c.fields)
		delete(r.cached.teams, c.team)
		for i := range c.fields {
			r.index.put(c.fields[i].row, c.team, c.parents[i])
		}
		r.index.setToken(c.team, c.token)
		tokens = append(tokens, r.tokens(c)...)
		if ops := c.difference(r.w.epoch, r.copy.At); ops != nil {
			teams = append(teams, ops)
		}
	}
	written, err := r.write(ctx, teams, tokens)
	r.result.TeamsWritten += written
	return err
}

// tokens gives a team the token that it has in the copy and takes its former one.
func (r *reconciliation) tokens(c *comparison) (ops []tokenOp) {
	if former := r.w.index.tokens[c.team]; former != "" && former != c.token && r.cached.tokens[former] == c.team {
		delete(r.cached.tokens, former)
		ops = append(ops, tokenOp{former, c.team, true})
	}
	if c.token == "" {
		return ops
	}
	if owner, has := r.cached.tokens[c.token]; !has || owner != c.team {
		ops = append(ops, tokenOp{c.token, c.team, false})
	}
	delete(r.cached.tokens, c.token) // what is left at the end belongs to nobody
	return ops
}

// removeGone removes teams and tokens that the copy does not have.
func (r *reconciliation) removeGone(ctx context.Context) error {
	for gone := range slices.Chunk(slices.Sorted(maps.Keys(r.cached.teams)), 1000) {
		teams := make([]*teamOps, len(gone))
		for i, team := range gone {
			teams[i] = &teamOps{team: team, mode: modeGone}
		}
		written, err := r.write(ctx, teams, nil)
		r.result.TeamsGone += written
		if err != nil {
			return err
		}
	}
	for left := range slices.Chunk(slices.Sorted(maps.Keys(r.cached.tokens)), 1000) {
		tokens := make([]tokenOp, len(left))
		for i, token := range left {
			tokens[i] = tokenOp{token, r.cached.tokens[token], true}
		}
		if _, err := r.write(ctx, nil, tokens); err != nil {
			return err
		}
	}
	return nil
}

// write runs one step of the reconcile and returns how many teams it wrote.
func (r *reconciliation) write(ctx context.Context, teams []*teamOps, tokens []tokenOp) (int, error) {
	if len(teams)+len(tokens) == 0 {
		return 0, nil
	}
	w := r.w
	w.steps++
	if err := w.stage(ctx, teams); err != nil {
		return 0, err
	}
	w.replacing = true // also if the reply is lost: the step may be done
	w.index.forgetRows()
	version := flagcache.Version(w.epoch, uint64(r.copy.At))
	name := fmt.Sprint(version, " ", w.steps)
	keys, args := w.operations([]any{
		w.owner, w.epoch, lsnText(w.checkpoint), lsnText(w.checkpoint), "", version, "", name, r.last, flagcache.SchemaVersion,
	}, teams, tokens)
	reply, err := w.call(ctx, "reconciling", applyScript, keys, args)
	if err != nil {
		return 0, err
	}
	r.last = name
	// A crash here leaves some teams as of the copy, with the marker and "reconciling" set: the next leader reconciles again.
	written, _ := reply[2].(int64)
	w.metrics.teams.WithLabelValues(causeReconcile).Add(float64(written))
	return int(written), nil
}

// finish declares the cache complete as of the copy.
func (r *reconciliation) finish(ctx context.Context) error {
	w := r.w
	version := flagcache.Version(w.epoch, uint64(r.copy.At))
	args := append([]any{
		w.owner, w.epoch, lsnText(w.checkpoint), lsnText(r.copy.At), version, flagcache.MarkReconciled, r.last,
		flagcache.MetaSchema, flagcache.SchemaVersion,
	}, sourceFields(r.copy.Source)...)
	if _, err := w.call(ctx, "completing a reconcile", finishScript, []string{w.keys.Meta, w.keys.Changes}, args); err != nil {
		return err
	}
	w.checkpoint, w.marker, w.replacing, w.inflight = r.copy.At, "", false, nil
	w.metrics.marked("")
	return nil
}

// comparison is one team in the copy, next to what the cache has of it.
type comparison struct {
	team    int64
	fields  []field
	parents []row // of the fields, by position
	token   string
	size    int // of the records

	stored        map[string]string // the team's hash
	listedVersion string            // in the hash of versions
}

// newComparison encodes a team of the copy.
func newComparison(t change.TeamRows) (*comparison, error) {
	c := &comparison{team: t.Team, parents: make([]row, len(t.Rows)), fields: make([]field, len(t.Rows))}
	size := 0
	for i := range t.Rows {
		size += recordSize(t.Rows[i].Columns, nil)
	}
	space := space{text: make([]byte, 0, size)}
	for i := range t.Rows {
		from := &t.Rows[i]
		r := row{from.Table.Entity, from.Key}
		record, ok := appendRecord(space.bytes(recordSize(from.Columns, nil)), from.Columns, nil)
		space.used(record)
		if !ok {
			return nil, fmt.Errorf("the copy of %s %s has a column without value", r.entity, r.key)
		}
		c.fields[i] = field{r, record}
		if relation, isChild := childOf[r.entity]; isChild {
			c.parents[i] = row{relation.entity, from.Parent}
		}
		if r.entity == flagcache.EntityTeam {
			var err error
			if c.token, err = tokenOf(record); err != nil {
				return nil, fmt.Errorf("team %s: %w", r.key, err)
			}
		}
		c.size += len(record)
	}
	return c, nil
}

// difference returns what makes the cache's team equal to the copy's, nil if it is.
func (c *comparison) difference(epoch int64, at change.LSN) *teamOps {
	version := c.stored[flagcache.VersionField]
	ops := &teamOps{team: c.team, version: versionAfter(version, epoch, at)}
	if len(c.stored) == 0 && len(c.fields) > 0 { // as all teams of an empty cache
		ops.mode, ops.sets = modeStaged, c.fields
		return ops
	}
	if version == "" || version != c.listedVersion {
		ops.mode = modeForce
	}
	kept := 0
	var name []byte
	for _, f := range c.fields {
		name = flagcache.AppendField(name[:0], f.row.entity, f.row.key)
		record, has := c.stored[string(name)]
		if has {
			kept++
		}
		if !has || record != string(f.record) {
			if ops.sets == nil {
				ops.sets = make([]field, 0, len(c.fields))
			}
			ops.sets = append(ops.sets, f)
		}
	}
	if kept < len(c.stored)-1 || version == "" && kept < len(c.stored) {
		ops.removes = c.extra()
	}
	if ops.mode == "" && len(ops.sets) == 0 && len(ops.removes) == 0 {
		return nil
	}
	return ops
}

// extra returns the fields that only the cache has.
func (c *comparison) extra() (names []string) {
	wanted := make(map[string]bool, len(c.fields))
	for _, f := range c.fields {
		wanted[flagcache.Field(f.row.entity, f.row.key)] = true
	}
	for name := range c.stored {
		if name != flagcache.VersionField && !wanted[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// versionAfter is the version that a reconcile gives a team: epoch and position of the copy. Two inexact copies of one position may differ, and readers
// compare versions for equality only; so a team that has this version, or a later one of this epoch, gets the next. Positions in the log are multiples
// of eight, which leaves room that no transaction uses.
func versionAfter(stored string, epoch int64, at change.LSN) string {
	if storedEpoch, lsn, err := flagcache.ParseVersion(stored); err == nil && storedEpoch == epoch && lsn >= uint64(at) {
		return flagcache.Version(epoch, lsn+1)
	}
	return flagcache.Version(epoch, uint64(at))
}

// cached is what the cache has of teams and tokens, as far as the copy has not named it.
type cached struct {
	teams  map[int64]struct{}
	tokens map[string]int64
}

func (w *Writer) readCached(ctx context.Context) (*cached, error) {
	c := &cached{teams: map[int64]struct{}{}, tokens: map[string]int64{}}
	err := w.scan(ctx, "reading versions", w.keys.Teams, func(team, _ string) error {
		if id, err := strconv.ParseInt(team, 10, 64); err == nil { // what is no team is not ours
			c.teams[id] = struct{}{}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = w.scan(ctx, "reading tokens", w.keys.Tokens, func(token, team string) error {
		id, _ := strconv.ParseInt(team, 10, 64)
		c.tokens[token] = id
		return nil
	})
	return c, err
}
