package store

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/everflag/everflag/decide/eval"
)

// slot is where a team keeps its program, if it has one.
type slot struct {
	compiling sync.Mutex // held by whoever compiles; the others wait for its result
	program   atomic.Pointer[eval.Program]
	used      atomic.Int64 // tick of the last request
}

// programs compiles teams on demand and bounds the memory that the results take.
type programs struct {
	store *Store
	tick  atomic.Int64 // seconds since the start: exact enough to tell which programs are in use

	mu   sync.Mutex
	live map[*team]int64 // bytes of the programs of served teams
	used int64           // sum of live
}

// hotTicks is how recently a team must have been asked for that a change of it is compiled before it is served, instead of by the next request.
const hotTicks = 60

// keepTime counts the seconds until the context ends, whether Redis answers or not.
func (p *programs) keepTime(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.tick.Add(1)
		}
	}
}

// of returns the program of a team of the view, compiled now if it is not there. Concurrent callers share one compilation.
func (p *programs) of(v *view, t *team) (*eval.Program, error) {
	if tick := p.tick.Load(); t.slot.used.Load() != tick {
		t.slot.used.Store(tick)
	}
	if program := t.slot.program.Load(); program != nil {
		return program, nil
	}
	t.slot.compiling.Lock()
	defer t.slot.compiling.Unlock()
	if program := t.slot.program.Load(); program != nil {
		return program, nil
	}
	program, err := p.compile(v, t)
	if err != nil {
		return nil, err
	}
	t.slot.program.Store(program)
	p.account(t)
	return program, nil
}

func (p *programs) compile(v *view, t *team) (*eval.Program, error) {
	records, err := t.records()
	if err != nil {
		return nil, err
	}
	siblings, err := v.siblingRecords(t)
	if err != nil {
		return nil, err
	}
	p.store.metrics.compiles.Inc()
	records.Version = newest(t, v.siblings(t)).String()
	return eval.CompileShared(records, siblings, p.store.cfg.Eval), nil
}

// prepare compiles the teams of the next view that replace teams in use, so that no request waits for it. It runs before the view is served.
func (p *programs) prepare(next *view, d *draft) {
	work := newBreather()
	for id, t := range d.teams {
		work.pause()
		old, ok := d.base.teams.get(id)
		if t == nil || !ok || old.slot.program.Load() == nil || p.tick.Load()-old.slot.used.Load() > hotTicks {
			continue
		}
		t.slot.used.Store(old.slot.used.Load())
		err := contained(func() (err error) {
			program, err := p.compile(next, t)
			t.slot.program.Store(program)
			return err
		})
		if err != nil {
			// The team is served all the same: the next request compiles it and reports what it finds.
			p.store.log.Warn("compiling a changed team ahead of its requests did not work", zap.Int64("team_id", id), zap.Error(err))
		}
	}
}

// replaced moves the account from the teams that the draft replaced to those that took their place. It runs after the view is served.
func (p *programs) replaced(d *draft) {
	p.mu.Lock()
	for id := range d.teams {
		if old, ok := d.base.teams.get(id); ok {
			p.used -= p.live[old]
			delete(p.live, old)
		}
	}
	p.mu.Unlock()
	for _, t := range d.teams {
		if t != nil && t.slot.program.Load() != nil {
			p.account(t)
		}
	}
}

// account counts the program of a team that is served, and drops others if it is one too many.
func (p *programs) account(t *team) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.store.view.Load()
	// A request may still compile a team of an earlier view: the result goes with the team, uncounted.
	if current, ok := v.teams.get(t.id); !ok || current != t {
		return
	}
	if _, counted := p.live[t]; !counted {
		p.live[t] = programBytes(v, t)
		p.used += p.live[t]
	}
	if limit := p.limit(v); p.used > limit {
		p.evict(t, limit)
	}
}

// programBytes estimates what a program takes: beside the values of the records stand the pre-encoded answers of each flag. Measured with flags of one
// condition, it is within a fifth from ten flags on.
func programBytes(v *view, t *team) int64 {
	flags, size := int64(t.flags), int64(t.size)
	for _, s := range v.siblings(t) {
		flags, size = flags+int64(s.flags), size+int64(s.size)
	}
	if flags == 0 {
		return 1 << 10
	}
	return (1+flags)<<10 + size*3/2
}

// limit is what the programs may take: the memory that the records leave, and a tenth of all where they leave less, since compiling for every request
// would be worse than a little more memory.
func (p *programs) limit(v *view) int64 {
	return max(p.store.cfg.MaxMemory-v.records, p.store.cfg.MaxMemory/10)
}

// evict drops the programs that were not used for the longest time until a good part of the limit is free, so that it does not run for every request.
// The caller holds the lock.
func (p *programs) evict(keep *team, limit int64) {
	byUse := make([]*team, 0, len(p.live))
	for t := range p.live {
		if t != keep {
			byUse = append(byUse, t)
		}
	}
	slices.SortFunc(byUse, func(a, b *team) int {
		return cmp.Or(cmp.Compare(a.slot.used.Load(), b.slot.used.Load()), cmp.Compare(a.id, b.id))
	})
	for _, t := range byUse {
		if p.used <= limit-limit/8 {
			return
		}
		t.slot.program.Store(nil)
		p.used -= p.live[t]
		delete(p.live, t)
		p.store.metrics.evictions.Inc()
	}
}

// count returns the number of programs in memory and their estimated size.
func (p *programs) count() (programs int, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.live), p.used
}
