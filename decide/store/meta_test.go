package store

import (
	"testing"
	"time"

	"github.com/everflag/everflag/internal/flagcache"
)

func TestJudge(t *testing.T) { // S14
	t.Parallel()
	now := time.Now()
	at := cursor{owner: "one", epoch: 5, seq: 10, checkpoint: 0x100}
	same := flagcache.Meta{Schema: 1, Owner: "one", Epoch: 5, Seq: 10, Checkpoint: "0/100", Complete: true, Heartbeat: 1000}
	for name, test := range map[string]struct {
		cursor func(c *cursor)
		meta   func(m *flagcache.Meta)
		want   verdict
		why    string // "" = not compared
	}{
		"nothing new":                 {nil, nil, follow, ""},
		"ahead":                       {nil, func(m *flagcache.Meta) { m.Seq = 12; m.Checkpoint = "0/200" }, follow, ""},
		"empty":                       {nil, func(m *flagcache.Meta) { *m = flagcache.Meta{} }, wait, "the cache is empty"},
		"newer schema":                {nil, func(m *flagcache.Meta) { m.Schema = 2 }, wait, ""},
		"first":                       {func(c *cursor) { *c = cursor{} }, nil, revalidate, reasonStart},
		"owner":                       {nil, func(m *flagcache.Meta) { m.Owner = "two" }, revalidate, reasonOwner},
		"epoch":                       {nil, func(m *flagcache.Meta) { m.Epoch = 6 }, revalidate, reasonEpoch},
		"lower epoch":                 {nil, func(m *flagcache.Meta) { m.Epoch = 4 }, revalidate, reasonEpoch},
		"seq below ours":              {nil, func(m *flagcache.Meta) { m.Seq = 9 }, revalidate, reasonBack},
		"checkpoint below ours":       {nil, func(m *flagcache.Meta) { m.Checkpoint = "0/FF" }, revalidate, reasonBack},
		"no checkpoint any more":      {nil, func(m *flagcache.Meta) { m.Checkpoint = "" }, revalidate, reasonBack},
		"still back":                  {func(c *cursor) { c.distrust, c.heartbeat = true, 1000 }, func(m *flagcache.Meta) { m.Checkpoint = "0/FF" }, follow, ""},
		"back, and a writer confirms": {func(c *cursor) { c.distrust, c.heartbeat = true, 999 }, nil, revalidate, reasonConfirmed},
		"back, reconcile under way": {
			func(c *cursor) { c.distrust, c.heartbeat = true, 999 },
			func(m *flagcache.Meta) { m.Reconcile = "x" }, follow, "",
		},
		"owed":                {func(c *cursor) { c.owed = reasonStart }, nil, revalidate, reasonStart},
		"owed, another owner": {func(c *cursor) { c.owed = reasonStart }, func(m *flagcache.Meta) { m.Owner = "two" }, revalidate, reasonOwner},
		"held, and settled":   {func(c *cursor) { c.held = true }, nil, revalidate, reasonComplete},
		"held, not complete":  {func(c *cursor) { c.held = true }, func(m *flagcache.Meta) { m.Complete = false }, follow, ""},
		"ahead for a second": {
			func(c *cursor) { c.ahead, c.lastSeq = now.Add(-time.Second), 10 },
			func(m *flagcache.Meta) { m.Seq = 11 }, revalidate, reasonBehind,
		},
		"ahead for a moment":        {func(c *cursor) { c.ahead, c.lastSeq = now, 10 }, func(m *flagcache.Meta) { m.Seq = 11 }, follow, ""},
		"ahead, but getting on":     {func(c *cursor) { c.ahead, c.lastSeq = now.Add(-time.Second), 9 }, func(m *flagcache.Meta) { m.Seq = 11 }, follow, ""},
		"was ahead, reached since":  {func(c *cursor) { c.ahead, c.lastSeq = now.Add(-time.Second), 10 }, nil, follow, ""},
		"unreadable checkpoint new": {func(c *cursor) { c.checkpoint = 0 }, func(m *flagcache.Meta) { m.Checkpoint = "x" }, follow, ""},
	} {
		c, m := at, same
		if test.cursor != nil {
			test.cursor(&c)
		}
		if test.meta != nil {
			test.meta(&m)
		}
		got, why := c.judge(m, now)
		if got != test.want || test.why != "" && why != test.why {
			t.Errorf("%s: judge = %v, %q; want %v, %q", name, got, why, test.want, test.why)
		}
	}
}

// S59, S60: the four conditions of a 401.
func TestAbsenceNeedsCertainty(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, test := range map[string]struct {
		condition condition
		want      bool
	}{
		"all is well":          {condition{certain: true, polled: now.Add(-time.Second), beat: now.Add(-2 * time.Second)}, true},
		"not certain":          {condition{polled: now, beat: now}, false},
		"polls fail":           {condition{certain: true, polled: now.Add(-5 * time.Second), beat: now.Add(-5 * time.Second)}, false},
		"heartbeats are over":  {condition{certain: true, polled: now, beat: now.Add(-10 * time.Second)}, false},
		"never polled":         {condition{certain: true, beat: now}, false},
		"never a heartbeat":    {condition{certain: true, polled: now}, false},
		"from the file, alone": {condition{origin: OriginFile, beat: now}, false},
	} {
		if got := test.condition.absenceCertain(now); got != test.want {
			t.Errorf("%s: %t, want %t", name, got, test.want)
		}
	}
}

func TestStale(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, test := range map[string]struct {
		condition condition
		want      time.Duration
	}{
		"beating":       {condition{beat: now.Add(-2 * time.Second)}, 0},
		"over":          {condition{beat: now.Add(-time.Minute)}, time.Minute},
		"never, young":  {condition{since: now.Add(-time.Second)}, 0},
		"never, older":  {condition{since: now.Add(-time.Minute)}, time.Minute},
		"from a future": {condition{beat: now.Add(time.Hour)}, 0},
	} {
		if got := test.condition.stale(now); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// The checkpoint is known to be reached only once everything that meta counts is in the view.
func TestReach(t *testing.T) {
	t.Parallel()
	meta := flagcache.Meta{Owner: "one", Epoch: 5, Seq: 10, Checkpoint: "1/0"}
	for name, test := range map[string]struct {
		cursor cursor
		want   cursor
	}{
		"there":         {cursor{owner: "one", epoch: 5, seq: 10}, cursor{owner: "one", epoch: 5, seq: 10, resolved: true, checkpoint: 1 << 32}},
		"not yet":       {cursor{owner: "one", epoch: 5, seq: 9}, cursor{owner: "one", epoch: 5, seq: 9}},
		"another epoch": {cursor{owner: "one", epoch: 4, seq: 11}, cursor{owner: "one", epoch: 4, seq: 11}},
		"in distrust":   {cursor{owner: "one", epoch: 5, seq: 10, distrust: true}, cursor{owner: "one", epoch: 5, seq: 10, distrust: true, resolved: true}},
	} {
		got := test.cursor
		if got.reach(meta); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}
