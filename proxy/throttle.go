package proxy

import (
	"errors"
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

	throttleSets = 4096 // with slotWays entries of 24 bytes each: 400 kB, always
)

// throttle slows down who guesses tokens. It counts by address and session
// together, so one address that many share, and one session that many use, are
// never closed to the others; and only forged tokens are counted, so whoever has a
// good one that is remembered never notices.
//
// Its memory is fixed. Where it is full, what failed longest ago goes: an attacker
// who makes room for himself pays throttleFree checks for each entry.
type throttle struct {
	// closed is when the last entry opens, in nanoseconds of meters.at; 0 = none ever
	// was closed. While it is past, which is nearly always, nothing is looked up.
	closed atomic.Int64

	mu              sync.Mutex
	slots[failures] // with the time of the last failure
}

// failures is how many there were of one address and session.
type failures int64

func newThrottle() *throttle {
	return &throttle{slots: newSlots[failures](throttleSets)}
}

// key names an address and a session.
func (t *throttle) key(from net.Addr, session string) uint64 {
	address := ""
	if ip := networkOf(from); ip.IsValid() {
		b := ip.As16()
		address = string(b[:])
	}
	return t.slots.key(address, session)
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
	e, found := t.find(key)
	return found && now < e.value.opens(e.at)
}

// failed counts a forged token.
func (t *throttle) failed(key uint64, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, found := t.find(key)
	if !found || now-e.at >= int64(throttleForget) {
		*e = slot[failures]{key: key}
	}
	e.value++
	e.at = now
	if opens := e.value.opens(e.at); opens > now && opens > t.closed.Load() {
		t.closed.Store(opens)
	}
}

// opens is when the next token is looked at, after these, the last of them then.
func (n failures) opens(last int64) int64 {
	over := n - throttleFree
	if over <= 0 {
		return last
	}
	wait := throttleMost
	if over <= 7 { // 2^7 * 100 ms is past 10 s
		wait = min(throttleFirst<<(over-1), throttleMost)
	}
	return last + int64(wait)
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
