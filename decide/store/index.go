package store

import (
	"hash/maphash"
	"iter"
	"maps"
)

// shards is how many maps an index is split into: few enough to copy the list of them for every change, enough that each map stays small with
// hundreds of thousands of entries.
const shards = 1024

// index is an immutable map. A changed copy shares every shard that did not change, so that a swap costs little next to the number of teams and readers
// need no lock. The zero value is empty.
type index[K comparable, V any] struct {
	shards *[shards]map[K]V
	seed   maphash.Seed
	size   int
}

func (x index[K, V]) get(key K) (V, bool) {
	if x.shards == nil {
		var none V
		return none, false
	}
	value, ok := x.shards[maphash.Comparable(x.seed, key)%shards][key]
	return value, ok
}

func (x index[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if x.shards == nil {
			return
		}
		for _, shard := range x.shards {
			for key, value := range shard {
				if !yield(key, value) {
					return
				}
			}
		}
	}
}

// edit starts a changed copy.
func (x index[K, V]) edit() *indexEdit[K, V] {
	e := &indexEdit[K, V]{next: index[K, V]{shards: new([shards]map[K]V), seed: x.seed, size: x.size}}
	if x.shards == nil {
		e.next.seed = maphash.MakeSeed()
		return e
	}
	*e.next.shards = *x.shards
	return e
}

// indexEdit is a copy under construction; it belongs to one goroutine.
type indexEdit[K comparable, V any] struct {
	next   index[K, V]
	copied [shards]bool
}

func (e *indexEdit[K, V]) get(key K) (V, bool) {
	return e.next.get(key)
}

func (e *indexEdit[K, V]) set(key K, value V) {
	shard := e.own(key)
	before := len(shard)
	shard[key] = value
	e.next.size += len(shard) - before
}

func (e *indexEdit[K, V]) remove(key K) {
	shard := e.own(key)
	before := len(shard)
	delete(shard, key)
	e.next.size += len(shard) - before
}

// own returns the shard of the key, copied if the original still shares it.
func (e *indexEdit[K, V]) own(key K) map[K]V {
	i := maphash.Comparable(e.next.seed, key) % shards
	if !e.copied[i] {
		e.copied[i] = true
		if e.next.shards[i] == nil {
			e.next.shards[i] = make(map[K]V)
		} else {
			e.next.shards[i] = maps.Clone(e.next.shards[i])
		}
	}
	return e.next.shards[i]
}

// done ends the edit and returns the copy.
func (e *indexEdit[K, V]) done() index[K, V] {
	return e.next
}
