package decide

import "sync"

// generations is a bounded cache: when the young generation is full it becomes the old one, and what nobody asked for since is dropped. A missing value is
// made while the others wait: making is short here.
type generations[V any] struct {
	limit int // of the costs of one generation

	mu         sync.RWMutex
	young, old map[string]costed[V]
	cost       int
}

type costed[V any] struct {
	value V
	cost  int
}

func newGenerations[V any](limit int) *generations[V] {
	return &generations[V]{limit: limit, young: map[string]costed[V]{}}
}

// load is the value of the key if it is there and current, and a new one otherwise.
func (g *generations[V]) load(key string, current func(V) bool, renew func() (v V, cost int)) V {
	g.mu.RLock()
	have, ok := g.young[key]
	g.mu.RUnlock()
	if ok && current(have.value) {
		return have.value
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if have, ok = g.young[key]; !ok {
		have, ok = g.old[key]
	}
	if !ok || !current(have.value) {
		have.value, have.cost = renew()
	}
	g.put(key, have)
	return have.value
}

func (g *generations[V]) put(key string, v costed[V]) {
	g.cost += v.cost - g.young[key].cost
	if g.cost > g.limit {
		g.old, g.young, g.cost = g.young, map[string]costed[V]{}, v.cost
	}
	g.young[key] = v
}
