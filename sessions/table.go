package sessions

import (
	"hash/maphash"
	"sync/atomic"
)

// tableBuckets keeps chains short up to some 100,000 sessions: 128 KiB of pointers.
const tableBuckets = 1 << 14

// table maps session ids to entries. get takes no lock and allocates nothing
// (sync.Map would, for the key's interface value); put and remove are for the
// holder of the Resolver's lock. A node is not changed once it can be seen.
type table struct {
	seed    maphash.Seed
	buckets [tableBuckets]atomic.Pointer[node]
}

type node struct {
	entry *entry
	next  *node
}

func newTable() *table { return &table{seed: maphash.MakeSeed()} }

func (t *table) bucket(id ID) *atomic.Pointer[node] {
	return &t.buckets[maphash.String(t.seed, string(id))%tableBuckets]
}

func (t *table) get(id ID) *entry {
	for n := t.bucket(id).Load(); n != nil; n = n.next {
		if n.entry.id == id {
			return n.entry
		}
	}
	return nil
}

// put adds an entry whose id the table does not hold.
func (t *table) put(e *entry) {
	b := t.bucket(e.id)
	b.Store(&node{entry: e, next: b.Load()})
}

func (t *table) remove(id ID) {
	b := t.bucket(id)
	b.Store(without(b.Load(), id))
}

// without copies the chain, since readers may stand on any of its nodes.
func without(n *node, id ID) *node {
	if n == nil {
		return nil
	}
	if n.entry.id == id {
		return n.next
	}
	return &node{entry: n.entry, next: without(n.next, id)}
}
