package cachewriter

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
)

// entries returns the stream's entries.
func (b *bundle) entries() (all []flagcache.Entry) {
	b.t.Helper()
	for _, message := range b.redis.XRange(b.t.Context(), "{"+b.prefix+"}:changes", "-", "+").Val() {
		entry, err := flagcache.ParseEntry(message.ID, message.Values)
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, entry)
	}
	return all
}

// "rebuild on an unchanged cache writes no team".
func TestReconcileOfAnEqualCacheWritesNoTeam(t *testing.T) {
	b := filled(t)
	before := b.redis.HGetAll(t.Context(), "{"+b.prefix+"}:teams").Val()
	if result := b.fill(); result.TeamsWritten != 0 || result.TeamsGone != 0 {
		t.Errorf("Reconcile = %+v, want nothing written", result)
	}
	if diff := cmp.Diff(before, b.redis.HGetAll(t.Context(), "{"+b.prefix+"}:teams").Val()); diff != "" {
		t.Errorf("versions moved:\n%s", diff)
	}
	if last := b.entries()[len(b.entries())-1]; last.Mark != flagcache.MarkReconciled {
		t.Errorf("last entry %+v, want the mark of a reconcile", last)
	}
}

// F70, F71: what is gone goes, what differs is replaced, whatever was done to the cache.
func TestReconcileRepairs(t *testing.T) {
	for name, damage := range map[string]func(b *bundle, tag string){
		"a row too many": func(b *bundle, tag string) { b.redis.HSet(t.Context(), tag+"team:1", "flag:99", "{}") },
		"a row missing":  func(b *bundle, tag string) { b.redis.HDel(t.Context(), tag+"team:1", "flag:10") },
		"a row changed":  func(b *bundle, tag string) { b.redis.HSet(t.Context(), tag+"team:1", "flag:10", `{"id":10}`) },
		"a team too many": func(b *bundle, tag string) {
			b.redis.HSet(t.Context(), tag+"team:9", "@v", "v", "team", "{}")
			b.redis.HSet(t.Context(), tag+"teams", "9", "v")
		},
		"a team missing":    func(b *bundle, tag string) { b.redis.Del(t.Context(), tag+"team:1") },
		"no list of teams":  func(b *bundle, tag string) { b.redis.Del(t.Context(), tag+"teams") },
		"a version changed": func(b *bundle, tag string) { b.redis.HSet(t.Context(), tag+"team:1", "@v", "x") },
		"no version": func(b *bundle, tag string) {
			b.redis.HDel(t.Context(), tag+"team:1", "@v")
			b.redis.HDel(t.Context(), tag+"teams", "1")
		},
		"no tokens":        func(b *bundle, tag string) { b.redis.Del(t.Context(), tag+"tokens") },
		"tokens swapped":   func(b *bundle, tag string) { b.redis.HSet(t.Context(), tag+"tokens", "phc_one", 2, "phc_two", 1) },
		"a token too many": func(b *bundle, tag string) { b.redis.HSet(t.Context(), tag+"tokens", "phc_stray", 2) },
		"tokens of other ages": func(b *bundle, tag string) {
			b.redis.Del(t.Context(), tag+"tokens")
			b.redis.HSet(t.Context(), tag+"tokens", "phc_old", 1, "phc_one", 2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := filled(t)
			damage(b, "{"+b.prefix+"}:")
			if differences, err := b.Compare(t.Context(), b.m.copy("verify")); err != nil || len(differences) == 0 {
				t.Errorf("Compare = %v, %v, want differences", differences, err)
			}
			b.fill()
			b.check()
			if differences, err := b.Compare(t.Context(), b.m.copy("verify")); err != nil || len(differences) != 0 {
				t.Errorf("Compare after the repair = %v, %v", differences, err)
			}
			b.apply(b.m.begin().put(flag, "10", modelRow{"active": false}, "filters").commit())
			b.check()
		})
	}
}

// A key that was removed behind our back is noticed when its team changes next.
func TestLostTeamIsNoticed(t *testing.T) { // F38
	b := filled(t)
	b.redis.Del(t.Context(), "{"+b.prefix+"}:team:1")
	if pending := b.apply(b.m.begin().put(flag, "11", modelRow{"active": true}).commit()); !strings.HasPrefix(pending, "team 1: ") {
		t.Errorf("marker %q, want one that names the team", pending)
	}
	if b.meta("complete") != "" {
		t.Error("a cache with a marker says it is complete")
	}
	b.fill()
	b.check()
	if b.meta("complete") != "1" || b.meta("reconcile") != "" {
		t.Error("an exact reconcile did not complete the cache")
	}
}

// A provisional fill sets no checkpoint and clears no marker; two of one position with different rows have different versions.
func TestProvisionalFill(t *testing.T) {
	b := setup(t)
	b.twoTeams()
	provisional := func() change.ReconcileResult {
		c := b.m.copy("waiting")
		c.At, c.Exact = 0x8000, false
		result, err := b.Reconcile(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	provisional()
	b.check()
	if b.meta("checkpoint") != "" || b.meta("complete") != "" || b.meta("reconcile") == "" || b.meta("schema") != "1" {
		t.Errorf("checkpoint %q, complete %q, marker %q, schema %q", b.meta("checkpoint"), b.meta("complete"), b.meta("reconcile"), b.meta("schema"))
	}
	first := b.redis.HGet(t.Context(), "{"+b.prefix+"}:teams", "2").Val()
	b.m.begin().put(cohort, "5", modelRow{"is_static": true}).commit()
	if result := provisional(); result.TeamsWritten != 1 {
		t.Errorf("second fill: %+v, want one team written", result)
	}
	if second := b.redis.HGet(t.Context(), "{"+b.prefix+"}:teams", "2").Val(); second <= first {
		t.Errorf("version %s after %s", second, first)
	}
	b.check()
}

// From the first team that a reconcile replaces until one completes, only the checkpoint moves: no team goes backwards. G2, G3
func TestBrokenReconcileHoldsRowsBack(t *testing.T) {
	b := filled(t)
	early := b.m.begin().put(flag, "11", modelRow{"active": true}).commit()
	b.m.begin().put(flag, "11", modelRow{"active": false, "key": "late"}).commit()
	broken := b.m.copy("breaks off")
	teams := broken.Teams
	cut := errors.New("cut")
	broken.Teams = func(yield func(change.TeamRows, error) bool) {
		for team, err := range teams {
			for range 501 { // a group and one more: the same team over and over
				if !yield(team, err) {
					return
				}
			}
			yield(change.TeamRows{}, cut)
			return
		}
	}
	if _, err := b.Reconcile(t.Context(), broken); !errors.Is(err, cut) {
		t.Fatalf("Reconcile = %v, want %v", err, cut)
	}
	replaced := b.m.image()
	for _, next := range []*Writer{b.Writer, b.writer(b.url)} { // the same process, and the next leader
		if next != b.Writer {
			if _, err := next.Acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		pending, err := next.Apply(t.Context(), change.Batch{Txs: []*change.Tx{early}, Through: early.EndLSN})
		if err != nil || pending == "" {
			t.Fatalf("Apply = %q, %v, want the marker", pending, err)
		}
		if diff := b.diff(replaced); diff != "" {
			t.Fatalf("a team went backwards:\n%s", diff)
		}
		early = b.m.begin().commit()
	}
	b.acquire()
	b.fill()
	b.check()
}

// Updates of columns that are not served cost no write but the checkpoint's.
func TestNoiseWritesNoTeam(t *testing.T) {
	b := filled(t)
	entries, versions := len(b.entries()), b.redis.HGetAll(t.Context(), "{"+b.prefix+"}:teams").Val()
	for i := range 10 {
		tx := b.m.begin().put(flag, "10", nil, "filters").put(flag, "11", nil).put(team, "1", nil).commit()
		if i%2 == 0 {
			tx = b.m.begin().put(cohort, "5", nil).commit()
		}
		b.apply(tx)
		if got := b.meta("checkpoint"); got != tx.EndLSN.String() {
			t.Errorf("checkpoint %s, want %s", got, tx.EndLSN)
		}
	}
	if len(b.entries()) != entries || cmp.Diff(versions, b.redis.HGetAll(t.Context(), "{"+b.prefix+"}:teams").Val()) != "" {
		t.Error("an update of nothing that is served was announced")
	}
	b.check()
}

// Entries number the changes of an epoch without a gap and carry version and commit time.
func TestEntries(t *testing.T) {
	b := filled(t)
	start := len(b.entries())
	tx := b.m.begin().put(flag, "11", modelRow{"active": true}).put(cohort, "5", modelRow{"is_static": true}).commit()
	b.apply(tx)
	entries := b.entries()
	version, at := flagcache.Version(b.epoch, uint64(tx.EndLSN)), tx.CommitTime.UnixMicro()
	want := []flagcache.Entry{
		{Epoch: b.epoch, Seq: int64(start + 1), Team: 1, Version: version, CommitTime: at}, {Epoch: b.epoch, Seq: int64(start + 2), Team: 2, Version: version, CommitTime: at},
	}
	if diff := cmp.Diff(want, entries[start:]); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	for i, entry := range entries {
		if entry.Seq != int64(i+1) {
			t.Errorf("entry %d has seq %d", i+1, entry.Seq)
		}
	}
	if b.meta("commit_time") != fmt.Sprint(at) || b.meta("seq") != fmt.Sprint(start+2) {
		t.Errorf("commit time %s, seq %s", b.meta("commit_time"), b.meta("seq"))
	}
}

// An epoch rises even if the meta hash was lost and the clock went back; a stranger's entry in the stream costs an Acquire and nothing more. G3
func TestEpochs(t *testing.T) {
	b := filled(t)
	changes := "{" + b.prefix + "}:changes"
	first := b.epoch
	b.redis.Del(t.Context(), "{"+b.prefix+"}:meta")
	ahead := first + 1e9
	b.redis.XAdd(t.Context(), &redis.XAddArgs{Stream: changes, ID: fmt.Sprintf("%d-7", ahead), Values: []string{"a", "b"}})
	b.acquire()
	if b.epoch != ahead+1 {
		t.Errorf("epoch %d, want %d", b.epoch, ahead+1)
	}
	b.fill()
	b.redis.XAdd(t.Context(), &redis.XAddArgs{Stream: changes, ID: fmt.Sprintf("%d-999999", b.epoch), Values: []string{"a", "b"}})
	tx := b.m.begin().put(flag, "11", modelRow{"active": true}).commit()
	if _, err := b.Apply(t.Context(), change.Batch{Txs: []*change.Tx{tx}, Through: tx.EndLSN}); !errors.Is(err, change.ErrFenced) {
		t.Errorf("Apply after a stranger's entry: %v, want ErrFenced", err)
	}
	b.acquire()
	b.apply(tx)
	b.redis.XAdd(t.Context(), &redis.XAddArgs{Stream: changes, ID: "18446744073709551614-0", Values: []string{"a", "b"}})
	b.acquire()
	b.apply(b.m.begin().put(flag, "11", modelRow{"active": false}).commit())
	b.check()
}

func TestBeatsAndObservations(t *testing.T) {
	b := filled(t)
	observe := func() change.Observation {
		t.Helper()
		seen, err := b.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
	idle := observe()
	if again := observe(); again != idle {
		t.Errorf("Observe = %+v, then %+v, with nothing in between", idle, again)
	}
	if !idle.Complete || idle.Teams != 2 || idle.Source != testSource || idle.Checkpoint != b.checkpoint {
		t.Errorf("Observe = %+v", idle)
	}
	beat := func(fresh bool) {
		t.Helper()
		if err := b.Beat(t.Context(), fresh); err != nil {
			t.Fatal(err)
		}
	}
	beat(false)
	stale := observe()
	if stale.Pulse == idle.Pulse || b.meta("heartbeat") != "" {
		t.Errorf("pulse %q after %q, heartbeat %q", stale.Pulse, idle.Pulse, b.meta("heartbeat"))
	}
	beat(true)
	meta, err := flagcache.ParseMeta(b.redis.HGetAll(t.Context(), "{"+b.prefix+"}:meta").Val())
	if age := meta.HeartbeatAge(b.redis.Time(t.Context()).Val()); err != nil || age < 0 || age > time.Minute {
		t.Errorf("heartbeat %v old, %v", age, err)
	}
	moved := testSource
	moved.PostmasterStart = moved.PostmasterStart.Add(time.Hour)
	if err := b.Confirm(t.Context(), moved); err != nil || observe().Source != moved {
		t.Errorf("Confirm: %v, source %+v", err, observe().Source)
	}
	if err := b.Mark(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	if err := b.Mark(t.Context(), "second"); err != nil || b.meta("reconcile") != "first" || observe().Complete {
		t.Errorf("Mark twice: %v, marker %q", err, b.meta("reconcile"))
	}
}

// A batch larger than one script goes in several, at borders of transactions; a transaction that is too large even alone is left to a reconcile.
func TestLargeBatches(t *testing.T) { // F39
	b := filled(t)
	big := strings.Repeat("b", 3<<20)
	one := b.m.begin().put(flag, "11", modelRow{"name": big}).commit()
	two := b.m.begin().put(cohort, "5", modelRow{"name": big}).commit()
	if pending := b.apply(one, two); pending != "" {
		t.Errorf("marker %q", pending)
	}
	b.check()
	three := b.m.begin().put(flag, "11", modelRow{"active": true}, "name").commit() // small in the log, large in the cache
	four := b.m.begin().put(cohort, "5", modelRow{"is_static": true}, "name").commit()
	if pending := b.apply(three, four); pending != "" {
		t.Errorf("marker %q", pending)
	}
	b.check()
	tx := b.m.begin()
	for i := range 12 {
		tx.put(flag, fmt.Sprint(100+i), modelRow{"team_id": 1, "name": big})
	}
	if pending := b.apply(tx.commit()); !strings.Contains(pending, "too large") {
		t.Errorf("marker %q, want that the transaction is too large", pending)
	}
	if got := b.meta("checkpoint"); got != tx.tx.EndLSN.String() {
		t.Errorf("checkpoint %s, want %s", got, tx.tx.EndLSN)
	}
	b.fill()
	b.check()
}

// One row more than Redis takes as arguments: left to a reconcile, however small.
func TestTooManyRows(t *testing.T) {
	b := filled(t)
	tx := &change.Tx{EndLSN: b.m.next()}
	for i := range maxRows + 1 {
		tx.Changes = append(tx.Changes, change.Change{Row: change.Row{Table: modelTables[cohort], Key: fmt.Sprint(i + 1), Team: 1}})
	}
	if pending := b.apply(tx); !strings.Contains(pending, "too large") {
		t.Errorf("marker %q, want that the transaction is too large", pending)
	}
	tx = &change.Tx{EndLSN: b.m.next(), Changes: tx.Changes[:maxRows]}
	b.apply(tx)
	if n := b.redis.HLen(t.Context(), b.keys.Team(1)).Val(); n < maxRows {
		t.Errorf("%d fields, want %d more", n, maxRows)
	}
}

// A team with many rows is loaded page by page.
func TestLoadOfALargeTeam(t *testing.T) { // F39
	b := setup(t)
	tx := b.m.begin().put(team, "1", modelRow{"api_token": "phc_one"})
	for i := range fieldsAtOnce + 5 {
		tx.put(flag, fmt.Sprint(i+1), modelRow{"team_id": 1})
	}
	for i := range 30 {
		tx.put(experiment, fmt.Sprint(i+1), modelRow{"feature_flag_id": i + 1})
	}
	tx.commit()
	b.fill()
	filled := b.index.String()
	b.acquire()
	if loaded := b.index.String(); loaded != filled {
		t.Errorf("the index loaded from the cache is another than the one it was filled with: %d and %d bytes", len(loaded), len(filled))
	}
}
