package cachewriter

import (
	"context"
	"slices"
	"time"

	"github.com/everflag/everflag/internal/flagcache"
)

// stagedFor is how long a staged team stays if a crash keeps its script from coming.
const stagedFor = 10 * time.Minute

// stage writes the teams that the cache does not have to keys that nobody reads. The script renames them, which is when they count: until then a former
// leader may do the same without harm. Records that pass through the arguments of a script cost Redis twice as much as those of plain commands.
func (w *Writer) stage(ctx context.Context, teams []*teamOps) error {
	const step, perCommand = "staging teams", 1000 // fields of one HSET
	keys, args := []string{}, []any{int64(stagedFor / time.Second)}
	for _, ops := range teams {
		if ops.mode == modeStaged {
			keys, args = append(keys, w.keys.Staged(w.owner, w.steps, ops.team)), append(args, ops.version)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if _, err := w.call(ctx, step, stageScript, keys, args); err != nil {
		return err
	}
	pipe := w.config.Client.Pipeline()
	for _, ops := range teams {
		if ops.mode != modeStaged {
			continue
		}
		for fields := range slices.Chunk(ops.sets, perCommand) {
			values := make([]any, 0, 2*len(fields))
			for i := range fields {
				values = append(values, flagcache.Field(fields[i].row.entity, fields[i].row.key), &fields[i])
			}
			pipe.HSet(ctx, keys[0], values...)
		}
		keys = keys[1:]
	}
	ctx, cancel := w.within(ctx)
	defer cancel()
	_, err := pipe.Exec(ctx)
	// A crash here leaves keys that nobody reads, until they expire.
	return w.classify(ctx, step, err)
}
