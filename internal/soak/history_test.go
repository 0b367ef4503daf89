package soak

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/everflag/everflag/internal/oracle"
)

type digest [sha256.Size]byte

// history is everything that was ever committed, as the cache must show it. One goroutine commits, any number ask.
//
// Columns that migrations touch are left out of it: until the catalog watch has seen a migration the stream goes on without what the stream cannot tell,
// and no program could do otherwise. Quiescent points compare them, too.
type history struct {
	columns map[string][]string // by entity: what is compared

	mu       sync.Mutex
	settled  *sync.Cond // signalled when a transaction has ended
	busy     bool       // a transaction is under way: it may be in the cache before it is here
	ended    int        // transactions that have ended
	loose    bool       // definitions have changed since the last quiescent point
	states   map[digest][]int
	teams    map[string]map[digest]bool // by team
	records  map[string]map[digest]bool // by team and field
	tokens   map[string]bool            // token + team
	times    []time.Time                // when a state was seen committed
	last     oracle.State               // the newest state, for messages
	lastSum  digest
	onCommit func(index int, state oracle.State)
}

func newHistory(must map[string][]string) *history {
	h := &history{
		columns: map[string][]string{}, states: map[digest][]int{}, teams: map[string]map[digest]bool{}, records: map[string]map[digest]bool{},
		tokens: map[string]bool{},
	}
	h.settled = sync.NewCond(&h.mu)
	for entity, columns := range must {
		h.columns[entity] = slices.DeleteFunc(slices.Sorted(slices.Values(columns)), func(c string) bool { return mutable[c] == entity })
	}
	return h
}

// begin says that something may be committed from now on.
func (h *history) begin(schema bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy = true
	h.loose = h.loose || schema
}

// end reads what is committed now.
func (h *history) end(ctx context.Context, db *pgx.Conn) error {
	state, _, err := oracle.Expected(ctx, db, oracle.Options{})
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy = false
	h.ended++
	h.add(state)
	h.settled.Broadcast()
	return nil
}

// abandon lets nobody wait any more: nothing will be committed.
func (h *history) abandon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy = false
	h.ended++
	h.settled.Broadcast()
}

// tighten ends the indulgence that a migration calls for.
func (h *history) tighten() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.loose = false
}

func (h *history) isLoose() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.loose
}

// add appends a state unless nothing has changed. h.mu is held.
func (h *history) add(state oracle.State) {
	sum := h.sum(state, func(team string, d digest) { include(h.teams, team, d) }, func(field string, d digest) { include(h.records, field, d) })
	if len(h.times) > 0 && sum == h.lastSum {
		return
	}
	for token, team := range state.Tokens {
		h.tokens[token+" "+team] = true
	}
	h.last, h.lastSum = state, sum
	h.states[sum] = append(h.states[sum], len(h.times))
	h.times = append(h.times, time.Now())
	if h.onCommit != nil {
		h.onCommit(len(h.times)-1, state)
	}
}

func include(sets map[string]map[digest]bool, key string, d digest) {
	if sets[key] == nil {
		sets[key] = map[digest]bool{}
	}
	sets[key][d] = true
}

// sum identifies a state. It tells the sums of its parts.
func (h *history) sum(state oracle.State, team func(string, digest), record func(string, digest)) digest {
	var all strings.Builder
	for _, id := range sortedKeys(state.Teams) {
		d := h.sumTeam(id, state.Teams[id], record)
		team(id, d)
		fmt.Fprintf(&all, "%s %x\n", id, d)
	}
	for _, token := range sortedKeys(state.Tokens) {
		fmt.Fprintf(&all, "%q %s\n", token, state.Tokens[token])
	}
	return sha256.Sum256([]byte(all.String()))
}

func (h *history) sumTeam(id string, fields map[string]oracle.Record, record func(string, digest)) digest {
	var team strings.Builder
	for _, field := range sortedKeys(fields) {
		entity, _, _ := strings.Cut(field, ":")
		hash := sha256.New()
		for _, column := range h.columns[entity] {
			value, has := fields[field][column]
			fmt.Fprintf(hash, "%s %t %d:%s\n", column, has, len(value), value)
		}
		d := digest(hash.Sum(nil))
		record(id+" "+field, d)
		fmt.Fprintf(&team, "%s %x\n", field, d)
	}
	return sha256.Sum256([]byte(team.String()))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// await calls ask until it returns nil, or until every transaction that may have begun before the call is part of what ask was told. ask is called with
// h.mu held.
func (h *history) await(ask func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	since, busy := h.ended, h.busy
	for {
		err := ask()
		if err == nil || !busy || h.ended > since {
			return err
		}
		h.settled.Wait()
	}
}

// newest is the index of the newest state.
func (h *history) newest() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.times) - 1
}

// staleness is how long the state at index has not been the newest one.
func (h *history) staleness(index int, now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if index < 0 || index+1 >= len(h.times) {
		return 0
	}
	return now.Sub(h.times[index+1])
}

// look is one atomic look at the cache.
type look struct {
	meta     map[string]string
	versions map[string]string // team → version in its own hash
	state    oracle.State
}

// judge returns what is wrong with a look. floor is the oldest state that it may show; the state that it shows is the next floor. Of states that are equal
// it shows the oldest possible, and the newest; newest is negative if it shows none as a whole.
func (h *history) judge(l look, floor int) (shown, newest int, err error) {
	shown, newest = floor, -1
	err = h.await(func() error {
		switch {
		case h.loose:
			return h.judgeRecords(l)
		case l.meta["reconciling"] != "":
			return h.judgeTeams(l)
		case l.meta["checkpoint"] == "" && len(l.state.Teams) == 0 && len(l.state.Tokens) == 0:
			return nil // new, or flushed, and it says so
		}
		ignore := func(string, digest) {}
		known := h.states[h.sum(l.state, ignore, ignore)]
		if len(known) == 0 {
			return fmt.Errorf("no commit has left the tables like this; %s", h.explain(l))
		}
		if known[len(known)-1] < floor {
			return fmt.Errorf("went back to state %d of %d after state %d", known[len(known)-1], len(h.times), floor)
		}
		at, _ := slices.BinarySearch(known, floor)
		shown, newest = known[at], known[len(known)-1]
		return nil
	})
	return shown, newest, err
}

// judgeTeams holds a cache that is being reconciled to the weaker rule: each team whole, as of some commit.
func (h *history) judgeTeams(l look) error {
	for _, id := range sortedKeys(l.state.Teams) {
		if !h.teams[id][h.sumTeam(id, l.state.Teams[id], func(string, digest) {})] {
			return fmt.Errorf("no commit has left team %s like this; %s", id, h.explain(l))
		}
	}
	return h.judgeTokens(l)
}

// judgeRecords is the weakest rule: each record as of some commit.
func (h *history) judgeRecords(l look) (err error) {
	for _, id := range sortedKeys(l.state.Teams) {
		h.sumTeam(id, l.state.Teams[id], func(field string, d digest) {
			if !h.records[field][d] {
				err = fmt.Errorf("no commit has left %q of a team like this; %s", field, h.explain(l))
			}
		})
	}
	if err != nil {
		return err
	}
	return h.judgeTokens(l)
}

func (h *history) judgeTokens(l look) error {
	for token, team := range l.state.Tokens {
		if !h.tokens[token+" "+team] {
			return fmt.Errorf("token %s never belonged to team %s", token, team)
		}
	}
	return nil
}

// explain compares a look with the newest state.
func (h *history) explain(l look) string {
	lines := oracle.Compare(h.last, l.state, nil)
	return fmt.Sprintf("meta %v; %d differences from the newest state: %s", l.meta, len(lines), strings.Join(lines[:min(8, len(lines))], "; "))
}
