package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/everflag/everflag/cachewriter"
	"github.com/everflag/everflag/internal/admin/pages"
	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/replication"
)

const (
	feedLength = 40 // entries that are kept
	feedItems  = 5  // changes of a transaction that are named
)

// feed is what the cache took last, for people: what changed and how long that took, never a value. It is safe for concurrent use.
type feed struct{ entries pages.Recent[entry] }

// entry is a transaction, or a reconcile.
type entry struct {
	At    time.Time // when Redis had confirmed it
	Took  time.Duration
	Teams []int64 // those known; a row that is gone does not say whose it was
	What  []string
	More  int // changes that are not named
}

// observed is the writer with a feed of what it confirmed.
type observed struct {
	*cachewriter.Writer
	feed *feed
}

var (
	_ replication.Sink     = observed{}
	_ replication.Observer = observed{}
)

func (o observed) Apply(ctx context.Context, batch change.Batch) (pending string, err error) {
	if pending, err = o.Writer.Apply(ctx, batch); err == nil {
		o.feed.applied(batch, time.Now())
	}
	return pending, err
}

func (o observed) Reconcile(ctx context.Context, c change.Copy) (change.ReconcileResult, error) {
	started := time.Now()
	result, err := o.Writer.Reconcile(ctx, c)
	if err == nil {
		now := time.Now()
		what := fmt.Sprintf("reconciled: %s; %d of %d teams written, %d removed", c.Reason, result.TeamsWritten, result.Teams, result.TeamsGone)
		if !c.Exact {
			what = "filled provisionally: " + c.Reason
		}
		o.feed.add(entry{At: now, Took: now.Sub(started), What: []string{what}})
	}
	return result, err
}

// applied notes the transactions of a batch, those that the feed would forget at once aside.
func (f *feed) applied(batch change.Batch, now time.Time) {
	for _, tx := range batch.Txs[max(0, len(batch.Txs)-feedLength):] {
		if e := entryOf(tx); len(e.What) > 0 {
			e.At, e.Took = now, now.Sub(tx.CommitTime)
			f.add(e)
		}
	}
}

func entryOf(tx *change.Tx) entry {
	if tx.Reconcile != "" {
		return entry{What: []string{"a reconcile is due: " + tx.Reconcile}}
	}
	var e entry
	for i := range tx.Changes {
		c := &tx.Changes[i]
		if c.Row.Team != 0 && len(e.Teams) <= 1 && !slices.Contains(e.Teams, c.Row.Team) {
			e.Teams = append(e.Teams, c.Row.Team)
		}
		if what := describe(c); len(e.What) < feedItems {
			e.What = append(e.What, what)
		} else {
			e.More++
		}
	}
	return e
}

// describe names what a change is about.
func describe(c *change.Change) string {
	names := map[string]string{
		flagcache.EntityTeam: "settings of the team", flagcache.EntityConfig: "flag settings of the team", flagcache.EntityGroupType: "group type",
		flagcache.EntityContext: "evaluation context", flagcache.EntityFlagContext: "context of a flag",
	}
	entity := c.Row.Table.Entity
	what := cmp.Or(names[entity], entity)
	switch entity {
	case flagcache.EntityTeam, flagcache.EntityConfig:
	case flagcache.EntityFlag:
		what += " " + flagKey(&c.Row)
	default:
		what += " " + c.Row.Key
	}
	if c.Op == change.Delete {
		what += " removed"
	}
	return what
}

// flagKey is the key of a flag as people know it, its id where the change does not tell.
func flagKey(row *change.Row) string {
	for _, column := range row.Columns {
		if column.Name == "key" && column.State == change.Value {
			return string(column.Text)
		}
	}
	return row.Key
}

func (f *feed) add(e entry) { f.entries.Add(e, feedLength) }

// last returns the entries, the newest first.
func (f *feed) last() []entry { return f.entries.All() }
