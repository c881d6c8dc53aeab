package proxy

import "hash/maphash"

// slotWays is how many entries may be in the place of one.
const slotWays = 4

// slots is a table of those that came last, in memory that is fixed: where there is no
// room for one, that of its set with the earliest time goes.
type slots[V any] struct {
	seed maphash.Seed
	sets [][slotWays]slot[V]
}

// slot is one entry. The zero value is free.
type slot[V any] struct {
	value V
	key   uint64
	at    int64 // nanoseconds
}

func newSlots[V any](sets int) slots[V] {
	return slots[V]{seed: maphash.MakeSeed(), sets: make([][slotWays]slot[V], sets)}
}

// key names what the parts say. The hash is keyed, so nobody can choose whom to meet.
func (s *slots[V]) key(parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, part := range parts {
		_, _ = h.WriteString(part)
		_ = h.WriteByte(0)
	}
	return max(h.Sum64(), 1) // 0 is a slot that is free
}

// find returns the slot of key, or the one to give up for it.
func (s *slots[V]) find(key uint64) (at *slot[V], found bool) {
	set := &s.sets[key%uint64(len(s.sets))]
	at = &set[0]
	for i := range set {
		switch {
		case set[i].key == key:
			return &set[i], true
		case set[i].key == 0 || at.key != 0 && set[i].at < at.at:
			at = &set[i]
		}
	}
	return at, false
}
