package proxy

import (
	"errors"
	"hash/maphash"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sconce-dev/sconce/auth"
)

const (
	// throttleFree is how many forged tokens one address may show for one session
	// before anything is done about it: people copy tokens wrongly.
	throttleFree = 20
	// After these, the next token is looked at after throttleFirst, and each further
	// failure doubles that up to throttleMost.
	throttleFirst = 100 * time.Millisecond
	throttleMost  = 10 * time.Second
	// throttleForget is how long after the last failure all is forgotten.
	throttleForget = time.Minute

	throttleSets = 4096 // with throttleWays entries of 24 bytes each: 400 kB, always
	throttleWays = 4
)

// throttle slows down who guesses tokens. It counts by address and session
// together, so one address that many share, and one session that many use, are
// never closed to the others; and only forged tokens are counted, so whoever has a
// good one that is remembered never notices.
//
// Its memory is fixed. Where it is full, what failed longest ago goes: an attacker
// who makes room for himself pays throttleFree checks for each entry.
type throttle struct {
	seed maphash.Seed
	// closed is when the last entry opens, in nanoseconds of meters.at; 0 = none ever
	// was closed. While it is past, which is nearly always, nothing is looked up.
	closed atomic.Int64

	mu   sync.Mutex
	sets [][throttleWays]failures
}

// failures are those of one address and session. The zero value is no entry.
type failures struct {
	key  uint64
	n    int64
	last int64
}

func newThrottle() *throttle {
	return &throttle{seed: maphash.MakeSeed(), sets: make([][throttleWays]failures, throttleSets)}
}

// key names an address and a session. The hash is keyed, so nobody can choose whom to
// meet.
func (t *throttle) key(from net.Addr, session string) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	if ip := networkOf(from); ip.IsValid() {
		b := ip.As16()
		_, _ = h.Write(b[:])
	}
	_, _ = h.WriteString(session)
	return h.Sum64()
}

// engaged says whether there is any reason to ask refuses; it saves a look at the clock.
func (t *throttle) engaged() bool { return t.closed.Load() != 0 }

// refuses says whether a token that is not known yet may not be looked at now.
func (t *throttle) refuses(key uint64, now int64) bool {
	if now >= t.closed.Load() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.find(key)
	return e != nil && now < e.opens()
}

// failed counts a forged token.
func (t *throttle) failed(key uint64, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.find(key)
	if e == nil {
		e = t.oldest(key)
		*e = failures{key: key}
	}
	if now-e.last >= int64(throttleForget) {
		e.n = 0
	}
	e.n++
	e.last = now
	if opens := e.opens(); opens > now && opens > t.closed.Load() {
		t.closed.Store(opens)
	}
}

// opens is when the next token is looked at.
func (e *failures) opens() int64 {
	over := e.n - throttleFree
	if over <= 0 {
		return e.last
	}
	wait := throttleMost
	if over <= 7 { // 2^7 * 100 ms is past 10 s
		wait = min(throttleFirst<<(over-1), throttleMost)
	}
	return e.last + int64(wait)
}

func (t *throttle) find(key uint64) *failures {
	set := &t.sets[key%throttleSets]
	for i := range set {
		if set[i].key == key && set[i].n > 0 {
			return &set[i]
		}
	}
	return nil
}

// oldest is the entry to give up for key.
func (t *throttle) oldest(key uint64) *failures {
	set := &t.sets[key%throttleSets]
	at := &set[0]
	for i := range set {
		if set[i].n == 0 {
			return &set[i]
		}
		if set[i].last < at.last {
			at = &set[i]
		}
	}
	return at
}

// guessed says whether the error is of a token that somebody made up. One that is
// genuine and late, early or for another door is no guess: whoever has it got it
// from an issuer.
func guessed(err error) bool {
	for _, forged := range [...]error{
		auth.ErrTooLong, auth.ErrMalformed, auth.ErrAlgorithm, auth.ErrUnknownKey, auth.ErrSignature, auth.ErrHeader,
	} {
		if errors.Is(err, forged) {
			return true
		}
	}
	return false
}
