package decide

import (
	"strings"
	"sync"
)

// generations is a bounded cache: when the young generation is full it becomes the old one, and what nobody asked for since is dropped.
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

// get is the value of the key, if it is there.
func (g *generations[V]) get(key string) (V, bool) {
	g.mu.RLock()
	have, ok := g.young[key]
	g.mu.RUnlock()
	if ok {
		return have.value, true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if have, ok = g.old[key]; ok {
		g.put(key, have)
	}
	return have.value, ok
}

// set makes value the key's; cost counts against the limit.
func (g *generations[V]) set(key string, value V, cost int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.put(key, costed[V]{value, cost})
}

func (g *generations[V]) put(key string, v costed[V]) {
	if g.cost += v.cost - g.young[key].cost; g.cost > g.limit {
		g.old, g.young, g.cost = g.young, map[string]costed[V]{}, v.cost
	}
	g.young[strings.Clone(key)] = v // as a piece of a request it would keep all of it
}
