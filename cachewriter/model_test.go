package cachewriter

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/everflag/everflag/internal/change"
)

// TestModel runs random programs of transactions against the writer and compares the cache with a model after every step: random batches, every
// transaction applied twice, commands that fail before or after they took effect, other leaders, reconciles, an emptied Redis. G1–G3, F29, F30, F37, F40–F42.
func TestModel(t *testing.T) {
	b := setup(t)
	rapid.Check(t, func(r *rapid.T) {
		b.flush()
		flaky := &flaky{}
		p := &program{T: r, b: b, flaky: flaky, lead: b.writer(b.url, flaky)}
		p.b.m = newModel()
		defer func() { _ = p.lead.config.Client.Close() }()
		p.acquire()
		r.Repeat(map[string]func(*rapid.T){
			"commit":    func(*rapid.T) { p.commit() },
			"commit 2":  func(*rapid.T) { p.commit() },
			"commit 3":  func(*rapid.T) { p.commit() },
			"apply":     func(*rapid.T) { p.apply() },
			"idle":      func(*rapid.T) { p.idle() },
			"take over": func(*rapid.T) { p.takeOver() },
			"reconcile": func(*rapid.T) { p.reconcile() },
			"flush":     func(*rapid.T) { p.flush() },
			"":          func(*rapid.T) { p.quiesce() },
		})
	})
}

// program is one run.
type program struct {
	*rapid.T
	b     *bundle
	flaky *flaky
	lead  *Writer
	txs   []*change.Tx // committed and not yet applied

	tokens int
}

func (p *program) pick(name string, n int) int { return rapid.IntRange(0, n-1).Draw(p.T, name) }

func (p *program) chance(name string) bool { return p.pick(name, 4) == 0 }

func (p *program) key(entity string) string {
	n := strconv.Itoa(1 + p.pick(entity, 4))
	if entity == context_ || entity == flagContext {
		return "00000000-0000-0000-0000-00000000000" + n
	}
	return n
}

// commit makes a random transaction.
func (p *program) commit() {
	tx := p.b.m.begin()
	for range 1 + p.pick("changes", 4) {
		p.step(tx)
	}
	if p.pick("truncate", 40) == 0 { // what a TRUNCATE of the cohorts looks like
		clear(p.b.m.tables[cohort])
		tx.tx.Changes, tx.tx.Reconcile = nil, "TRUNCATE of posthog_cohort"
	}
	p.txs = append(p.txs, tx.commit())
}

// step adds a change that the constraints of the source allow at the end of a transaction.
func (p *program) step(tx *modelTx) {
	m := p.b.m
	kinds := []string{team, team, flag, flag, flag, cohort, config, context_, flagContext, experiment, "swap", "rename", "drop team", "delete"}
	switch kind := kinds[p.pick("kind", len(kinds))]; kind {
	case team:
		id := p.key(team)
		values := modelRow{"name": p.text()}
		if m.tables[team][id] == nil || p.chance("new token") {
			p.tokens++ // a token is never used twice
			values["api_token"] = "phc_" + strconv.Itoa(p.tokens)
			values["secret_api_token"] = p.text()
		}
		p.put(tx, team, id, values, "name", "secret_api_token", "api_token")
	case flag:
		p.putFlag(tx)
	case cohort, context_:
		if id := p.team(); id != 0 {
			p.put(tx, kind, p.key(kind), modelRow{"team_id": id, "name": p.text()})
		}
	case config:
		if id := p.team(); id != 0 {
			p.put(tx, config, strconv.Itoa(id), modelRow{"property_matching_version": p.pick("v", 3)})
		}
	case flagContext, experiment:
		if flags := slices.Sorted(maps.Keys(m.tables[flag])); len(flags) > 0 {
			id, _ := strconv.Atoi(flags[p.pick("parent", len(flags))])
			p.put(tx, kind, p.key(kind), modelRow{"feature_flag_id": id, "name": p.text()}, "name")
		}
	case "swap":
		a, b := m.tables[team]["1"], m.tables[team]["2"]
		if a != nil && b != nil {
			tokens := [2]any{a["api_token"], b["api_token"]}
			tx.put(team, "1", modelRow{"api_token": "phc_between"})
			tx.put(team, "2", modelRow{"api_token": tokens[0]}, "name")
			tx.put(team, "1", modelRow{"api_token": tokens[1]})
		}
	case "rename":
		p.rename(tx)
	case "drop team":
		if id := p.team(); id != 0 {
			p.dropTeam(tx, id)
		}
	case "delete":
		entity := []string{cohort, config, context_, flagContext, experiment}[p.pick("of", 5)]
		if keys := slices.Sorted(maps.Keys(m.tables[entity])); len(keys) > 0 {
			tx.remove(entity, keys[p.pick("key", len(keys))])
		}
	}
}

// team picks an existing team.
func (p *program) team() int {
	ids := slices.Sorted(maps.Keys(p.b.m.tables[team]))
	if len(ids) == 0 {
		return 0
	}
	id, _ := strconv.Atoi(ids[p.pick("team", len(ids))])
	return id
}

func (p *program) text() string {
	return rapid.SampledFrom([]string{"", "a", "b", "\"\\\n", "é<&>😀", "{}", strings.Repeat("x", 300)}).Draw(p.T, "text")
}

// put changes a row; columns that may be out of line and keep their value sometimes come unchanged.
func (p *program) put(tx *modelTx, entity, key string, values modelRow, outOfLine ...string) {
	old, exists := p.b.m.tables[entity][key]
	var unchanged []string
	for _, name := range outOfLine {
		if value, set := values[name]; exists && (!set || value == old[name]) && p.chance("unchanged "+name) {
			unchanged = append(unchanged, name)
		}
	}
	tx.put(entity, key, values, unchanged...)
}

// putFlag inserts, edits, hides, shows or moves a flag, hidden ones included.
func (p *program) putFlag(tx *modelTx) {
	id := p.team()
	if id == 0 {
		return
	}
	key := p.key(flag)
	_, exists := p.b.m.tables[flag][key]
	values := modelRow{"active": p.chance("active"), "deleted": p.chance("hide")}
	if !exists || p.chance("move") {
		values["team_id"] = id
	}
	if !exists || p.chance("filters") {
		values["filters"] = large(strconv.Itoa(p.pick("filters", 3)))
		tx.put(flag, key, values)
		return
	}
	if p.chance("resent") {
		tx.put(flag, key, values)
		return
	}
	tx.put(flag, key, values, "filters")
}

// rename gives a flag another primary key, of one that is gone or was never there; the flag may be hidden. Its children follow with changes of their own,
// before or after.
func (p *program) rename(tx *modelTx) {
	m, from, to := p.b.m, p.key(flag), p.key(flag)
	if p.chance("new key") {
		to = strconv.Itoa(100 + int(m.lsn)%1000)
	}
	if m.tables[flag][from] == nil || m.tables[flag][to] != nil {
		return
	}
	id, _ := strconv.Atoi(to)
	children := func() {
		for _, entity := range []string{flagContext, experiment} {
			for _, key := range slices.Sorted(maps.Keys(m.tables[entity])) {
				if strconv.Itoa(m.tables[entity][key]["feature_flag_id"].(int)) == from {
					tx.put(entity, key, modelRow{"feature_flag_id": id}, "name")
				}
			}
		}
	}
	before := p.chance("children first")
	if before {
		children()
	}
	tx.rename(flag, from, to, modelRow{"active": true}, "filters")
	if !before {
		children()
	}
}

// dropTeam removes a team and all its rows, in an order that deferred constraints allow: any. F41
func (p *program) dropTeam(tx *modelTx, id int) {
	m := p.b.m
	var steps [][2]string
	for _, entity := range []string{flag, cohort, context_} {
		for key, row := range m.tables[entity] {
			if row["team_id"] == id {
				steps = append(steps, [2]string{entity, key})
			}
		}
	}
	for _, entity := range []string{flagContext, experiment} {
		for key, row := range m.tables[entity] {
			if m.tables[flag][strconv.Itoa(row["feature_flag_id"].(int))]["team_id"] == id {
				steps = append(steps, [2]string{entity, key})
			}
		}
	}
	if m.tables[config][strconv.Itoa(id)] != nil {
		steps = append(steps, [2]string{config, strconv.Itoa(id)})
	}
	steps = append(steps, [2]string{team, strconv.Itoa(id)})
	slices.SortFunc(steps, func(a, b [2]string) int { return strings.Compare(a[0]+a[1], b[0]+b[1]) })
	for _, step := range rapid.Permutation(steps).Draw(p.T, "order") {
		tx.remove(step[0], step[1])
	}
}

// apply sends a random part of what is committed, sometimes through failures, then once more.
func (p *program) apply() {
	if len(p.txs) == 0 {
		return
	}
	n := 1 + p.pick("batch", len(p.txs))
	batch := change.Batch{Txs: p.txs[:n], Through: p.txs[n-1].EndLSN}
	pending := p.send(batch)
	if again := p.send(batch); again != pending {
		p.Fatalf("applied again: marker %q, was %q", again, pending)
	}
	p.txs = p.txs[n:]
}

// send applies a batch, and again after each failure.
func (p *program) send(batch change.Batch) (pending string) {
	p.flaky.plan = rapid.SliceOfN(rapid.SampledFrom([]failure{works, works, lost, persisted}), 0, 6).Draw(p.T, "failures")
	for {
		pending, err := p.lead.Apply(p.b.t.Context(), batch)
		if err == nil {
			p.flaky.plan = nil
			return pending
		}
		if !errors.Is(err, errCut) {
			p.Fatalf("Apply: %v", err)
		}
	}
}

func (p *program) idle() {
	if len(p.txs) == 0 {
		p.send(change.Batch{Through: p.b.m.next()})
	}
}

// takeOver lets another process lead; the former one can do nothing any more.
func (p *program) takeOver() {
	former := p.lead
	p.lead = p.b.writer(p.b.url, p.flaky)
	p.acquire()
	if _, err := former.Apply(p.b.t.Context(), change.Batch{Through: p.b.m.lsn + 1<<20}); !errors.Is(err, change.ErrFenced) {
		p.Fatalf("a former leader wrote: %v", err)
	}
	_ = former.config.Client.Close()
}

// acquire leads and does what replication would do then.
func (p *program) acquire() {
	position, err := p.lead.Acquire(p.b.t.Context())
	if err != nil {
		p.Fatalf("Acquire: %v", err)
	}
	if position.Checkpoint == 0 {
		p.reconcile()
	}
}

// reconcile copies the source as of now; transactions up to there are dropped by position. An earlier attempt may break off in the middle.
func (p *program) reconcile() {
	if p.chance("breaks off") {
		p.flaky.plan = append(make([]failure, p.pick("after", 6)), lost)
		_, _ = p.lead.Reconcile(p.b.t.Context(), p.b.m.copy("breaks off"))
		p.flaky.plan = nil
		if len(p.txs) > 0 && p.chance("apply in between") {
			p.send(change.Batch{Txs: p.txs[:1], Through: p.txs[0].EndLSN})
		}
	}
	if _, err := p.lead.Reconcile(p.b.t.Context(), p.b.m.copy("test")); err != nil {
		p.Fatalf("Reconcile: %v", err)
	}
	p.compare()
}

func (p *program) flush() {
	if p.pick("really", 10) != 0 {
		return
	}
	p.b.flush()
	if err := p.lead.Beat(p.b.t.Context(), true); !errors.Is(err, change.ErrFenced) {
		p.Fatalf("Beat after a flush: %v", err)
	}
	p.acquire()
}

// quiesce applies what is left in one of the ways that replication would, and compares.
func (p *program) quiesce() {
	if len(p.txs) > 0 && !p.chance("settle") {
		return
	}
	for len(p.txs) > 0 {
		p.apply()
	}
	if p.lead.marker != "" {
		p.reconcile()
		return
	}
	p.compare()
	before := p.writes()
	p.send(change.Batch{Through: p.lead.checkpoint})
	if after := p.writes(); after != before {
		p.Fatalf("a replay changed the cache: %s, was %s", after, before)
	}
}

func (p *program) compare() {
	if diff := p.b.diff(p.b.m.image()); diff != "" {
		p.Fatalf("the cache differs from the source (-source +cache):\n%s", diff)
	}
	differences, err := p.lead.Compare(p.b.t.Context(), p.b.m.copy("verify"))
	if err != nil || len(differences) > 0 {
		p.Fatalf("Compare = %v, %v", differences, err)
	}
}

func (p *program) writes() string {
	return fmt.Sprint(p.b.redis.XInfoStream(p.b.t.Context(), "{"+p.b.prefix+"}:changes").Val().LastGeneratedID)
}
