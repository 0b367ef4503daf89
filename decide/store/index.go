package store

import (
	"hash/maphash"
	"iter"
	"maps"
)

// fanout is the width of both levels of an index: a change copies one list of each level and one small map, with hundreds of thousands of entries too.
const fanout = 128

// index is an immutable map. A changed copy shares all that did not change, so that a swap costs little next to the number of teams and readers need no
// lock. The zero value is empty.
type index[K comparable, V any] struct {
	nodes *[fanout]*node[K, V]
	seed  maphash.Seed
	size  int
}

type node[K comparable, V any] [fanout]map[K]V

// place says where in the two levels a key belongs.
func (x index[K, V]) place(key K) (n, leaf uint64) {
	hash := maphash.Comparable(x.seed, key)
	return hash % fanout, hash / fanout % fanout
}

func (x index[K, V]) get(key K) (V, bool) {
	if x.nodes != nil {
		n, leaf := x.place(key)
		if node := x.nodes[n]; node != nil {
			value, ok := node[leaf][key]
			return value, ok
		}
	}
	var none V
	return none, false
}

func (x index[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if x.nodes == nil {
			return
		}
		for _, node := range x.nodes {
			if node == nil {
				continue
			}
			for _, leaf := range node {
				for key, value := range leaf {
					if !yield(key, value) {
						return
					}
				}
			}
		}
	}
}

// edit starts a changed copy.
func (x index[K, V]) edit() *indexEdit[K, V] {
	e := &indexEdit[K, V]{next: index[K, V]{nodes: new([fanout]*node[K, V]), seed: x.seed, size: x.size}, leaves: make(map[uint64]struct{})}
	if x.nodes == nil {
		e.next.seed = maphash.MakeSeed()
		return e
	}
	*e.next.nodes = *x.nodes
	return e
}

// indexEdit is a copy under construction; it belongs to one goroutine.
type indexEdit[K comparable, V any] struct {
	next   index[K, V]
	nodes  [fanout]bool        // those that are copied already
	leaves map[uint64]struct{} // and those of them
}

func (e *indexEdit[K, V]) get(key K) (V, bool) {
	return e.next.get(key)
}

func (e *indexEdit[K, V]) set(key K, value V) {
	leaf := e.own(key)
	before := len(leaf)
	leaf[key] = value
	e.next.size += len(leaf) - before
}

func (e *indexEdit[K, V]) remove(key K) {
	leaf := e.own(key)
	before := len(leaf)
	delete(leaf, key)
	e.next.size += len(leaf) - before
}

// own returns the map where the key belongs, copied if the original still shares it.
func (e *indexEdit[K, V]) own(key K) map[K]V {
	n, leaf := e.next.place(key)
	if !e.nodes[n] {
		e.nodes[n] = true
		copied := new(node[K, V])
		if original := e.next.nodes[n]; original != nil {
			*copied = *original
		}
		e.next.nodes[n] = copied
	}
	at := &e.next.nodes[n][leaf]
	if _, copied := e.leaves[n*fanout+leaf]; !copied {
		e.leaves[n*fanout+leaf] = struct{}{}
		if *at = maps.Clone(*at); *at == nil {
			*at = make(map[K]V)
		}
	}
	return *at
}

// done ends the edit and returns the copy.
func (e *indexEdit[K, V]) done() index[K, V] {
	return e.next
}
