package cachewriter

import "math/bits"

// numbers maps numeric primary keys to teams in 12 bytes a slot, where a Go map takes 17 and doubles: a hash table with linear probing, kept between half
// and four fifths full. Its zero value is empty.
type numbers struct {
	keys  []int64
	teams []int32 // 0 = free slot
	used  int
	wide  map[int64]int64 // the teams of keys with team outsized
}

// outsized stands for a team that 32 bits do not hold. PostHog's team ids have 32 bits; larger ones cost a little more.
const outsized = -1

func (n *numbers) get(key int64) int64 {
	if n.used == 0 {
		return 0
	}
	team := n.teams[n.slot(key)]
	if team == outsized {
		return n.wide[key]
	}
	return int64(team)
}

func (n *numbers) put(key, team int64) {
	if n.used >= len(n.keys)/5*4 {
		n.grow()
	}
	i := n.slot(key)
	if n.teams[i] == 0 {
		n.keys[i] = key
		n.used++
	}
	delete(n.wide, key)
	if n.teams[i] = int32(team); int64(n.teams[i]) == team && team > 0 {
		return
	}
	n.teams[i] = outsized
	if n.wide == nil {
		n.wide = map[int64]int64{}
	}
	n.wide[key] = team
}

// remove closes the gap: a key behind it moves up if its own place is not after the gap.
func (n *numbers) remove(key int64) {
	if n.used == 0 {
		return
	}
	gap := n.slot(key)
	if n.teams[gap] == 0 {
		return
	}
	delete(n.wide, key)
	n.used--
	for i := n.after(gap); n.teams[i] != 0; i = n.after(i) {
		if home := n.home(n.keys[i]); between(home, gap, i) {
			n.keys[gap], n.teams[gap] = n.keys[i], n.teams[i]
			gap = i
		}
	}
	n.teams[gap] = 0
}

// between reports whether gap lies on the way from home to i, around the end if need be.
func between(home, gap, i int) bool {
	if home <= i {
		return home <= gap && gap < i
	}
	return home <= gap || gap < i
}

// slot returns where the key is, or the free slot where it belongs.
func (n *numbers) slot(key int64) int {
	i := n.home(key)
	for n.teams[i] != 0 && n.keys[i] != key {
		i = n.after(i)
	}
	return i
}

// home spreads keys over any number of slots.
func (n *numbers) home(key int64) int {
	high, _ := bits.Mul64(uint64(key)*0x9E3779B97F4A7C15, uint64(len(n.keys)))
	return int(high)
}

func (n *numbers) after(i int) int {
	if i++; i == len(n.keys) {
		return 0
	}
	return i
}

func (n *numbers) grow() {
	old := *n
	size := max(10, len(old.keys)*8/5)
	n.keys, n.teams = make([]int64, size), make([]int32, size)
	for i, team := range old.teams {
		if team != 0 {
			j := n.slot(old.keys[i])
			n.keys[j], n.teams[j] = old.keys[i], team
		}
	}
}
