package auth

import (
	"maps"
	"slices"
	"sync/atomic"
)

// keyTable is public keys by kid: read by anyone, replaced whole by one at a time.
type keyTable struct {
	keys atomic.Pointer[map[string]*publicKey]
}

func (t *keyTable) init() { t.keys.Store(&map[string]*publicKey{}) }

// lookup returns the key of that kid, or nil. The kid is a name in a map and
// nothing else: no file or address is made of it.
func (t *keyTable) lookup(kid string) *publicKey { return (*t.keys.Load())[kid] }

// KeyIDs lists the kids that are held, sorted.
func (t *keyTable) KeyIDs() []string {
	return slices.Sorted(maps.Keys(*t.keys.Load()))
}

// replace puts next in place. A key that was there before stays the same
// *publicKey, so that the tokens it signed stay in the cache.
func (t *keyTable) replace(next map[string]*publicKey) (added, removed []string) {
	old := *t.keys.Load()
	for kid, k := range next {
		if before := old[kid]; before != nil && before.same(k) {
			next[kid] = before
		}
	}
	t.keys.Store(&next)
	for kid, k := range old {
		if next[kid] != k {
			k.retired.Store(true)
			removed = append(removed, kid)
		}
	}
	for kid, k := range next {
		if old[kid] != k {
			added = append(added, kid)
		}
	}
	return added, removed
}
