package auth

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// waysPerSet is how many tokens share a slot of the cache: few enough to look
// at each, enough that a slot seldom overflows while another has room.
const waysPerSet = 8

// tokenCache remembers verified tokens, keyed by the token itself. It is
// set-associative: a token's hash names a set, and any of the set's eight
// places may hold it. Readers take no lock and allocate nothing; a writer locks
// the one set that it writes to. What it holds is bounded by its size, each
// entry by MaxTokenBytes plus the length caps of the claims (5 KiB at worst,
// about 1 KiB as minted).
//
// The hash is seeded, so nobody can aim tokens at one set, and the time that a
// compare takes tells nothing: it runs only where all 64 bits of the hash are
// equal.
type tokenCache struct {
	seed maphash.Seed
	sets []cacheSet
}

type cacheSet struct {
	mu   sync.Mutex // held by writers; guards hand
	hand uint8      // where the search for a victim goes on
	ways [waysPerSet]atomic.Pointer[cacheEntry]
}

// cacheEntry is immutable but for used.
type cacheEntry struct {
	hash  uint64
	token string
	id    Identity
	key   *publicKey
	used  atomic.Bool // since the hand last passed
}

// newTokenCache makes a cache for size tokens, rounded up to whole sets.
func newTokenCache(size int) *tokenCache {
	return &tokenCache{
		seed: maphash.MakeSeed(),
		sets: make([]cacheSet, (size+waysPerSet-1)/waysPerSet),
	}
}

func (c *tokenCache) set(hash uint64) *cacheSet {
	i, _ := bits.Mul64(hash, uint64(len(c.sets)))
	return &c.sets[i]
}

// get returns the entry of that very token, or nil. The caller checks its kind,
// its times and its key.
func (c *tokenCache) get(token string) *cacheEntry {
	if c == nil {
		return nil
	}
	hash := maphash.String(c.seed, token)
	set := c.set(hash)
	for i := range set.ways {
		e := set.ways[i].Load()
		if e == nil || e.hash != hash || e.token != token {
			continue
		}
		if !e.used.Load() { // read first: a store would bounce the line between cores
			e.used.Store(true)
		}
		return e
	}
	return nil
}

// put remembers a verified token. e.token must not alias a larger buffer.
func (c *tokenCache) put(e *cacheEntry, now time.Time) {
	if c == nil {
		return
	}
	e.hash = maphash.String(c.seed, e.token)
	set := c.set(e.hash)
	set.mu.Lock()
	defer set.mu.Unlock()
	set.ways[set.place(e, now)].Store(e)
}

// place chooses where e goes: over its own older entry, into a place that is
// empty or holds what no longer counts, or else over the next entry that was
// not used since the hand last passed. The caller holds mu.
func (s *cacheSet) place(e *cacheEntry, now time.Time) int {
	free := -1
	for i := range s.ways {
		old := s.ways[i].Load()
		if old != nil && old.hash == e.hash && old.token == e.token {
			return i
		}
		if old == nil || old.key.retired.Load() || !now.Before(old.id.Expires) {
			free = i
		}
	}
	if free >= 0 {
		return free
	}
	for range waysPerSet {
		i := s.next()
		if old := s.ways[i].Load(); !old.used.CompareAndSwap(true, false) {
			return i
		}
	}
	return s.next()
}

func (s *cacheSet) next() int {
	i := s.hand
	s.hand = (i + 1) % waysPerSet
	return int(i)
}
