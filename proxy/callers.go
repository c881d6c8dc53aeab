package proxy

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// limitRequests is the setting of how often an owner may call the control API.
const limitRequests = "limits.control_requests"

// Callers keeps those who call the control API without end from what others need: an
// owner by the number of calls in a second, and who makes API keys up by the throttle of
// forged tokens, since each costs a read of the registry. Its memory is fixed. Any
// goroutine may use it.
type Callers struct {
	now   func() time.Time
	start time.Time
	cost  int64   // nanoseconds in which the right to one call comes back; 0 = no limit
	rates *places // of owners, and of API keys that are good: when all of it is back
	keys  *throttle
	good  *places // of API keys that let somebody in: when they did last
}

// NewCallers lets an owner make so many requests in a second, after a burst of ten times
// as many; 0 = no limit. now nil = time.Now.
func NewCallers(requests int, now func() time.Time) *Callers {
	if now == nil {
		now = time.Now
	}
	c := &Callers{now: now, start: now(), rates: newPlaces(4096), keys: newThrottle(), good: newPlaces(1024)}
	if requests > 0 {
		c.cost = int64(time.Second) / int64(requests)
	}
	return c
}

func (c *Callers) at() int64 { return int64(c.now().Sub(c.start)) }

// Enter counts one call of an owner, or says that it is one too many, as an error that
// RefuseControl knows.
func (c *Callers) Enter(org, subject string) error { return c.enter(c.rates.key(org, subject)) }

func (c *Callers) enter(who uint64) error {
	wait := c.rates.take(who, c.at(), c.cost, int64(requestBurst))
	if wait <= 0 {
		return nil
	}
	row := refuseRate.over(limitRequests, wait)
	return &refusedError{&row}
}

// May says whether an API key that came from an address, host:port, may be looked up,
// as an error that RefuseControl knows. One that was good here before may, as often as
// its owner may call.
func (c *Callers) May(from, key string) error {
	if c.good.has(c.good.key(key)) {
		return c.enter(c.rates.key(key))
	}
	if !c.keys.engaged() {
		return nil
	}
	addr, now := addressOf(from), c.at()
	if !c.keys.refuses(c.keys.key(addr, ""), now) && !c.keys.refuses(c.keys.key(addr, key), now) {
		return nil
	}
	return &refusedError{&refuseKeyGuesses}
}

// Tried is told what came of it. Keys that nobody has count for their address; one that
// was good once, for itself: whoever has it got it from here.
func (c *Callers) Tried(from, key string, err error) {
	switch {
	case err == nil:
		c.good.put(c.good.key(key), c.at())
	case errors.Is(err, sessions.ErrUnknownKey):
		c.keys.failed(c.keys.key(addressOf(from), ""), c.at())
	case errors.Is(err, sessions.ErrKeyRevoked), errors.Is(err, sessions.ErrKeyExpired):
		c.good.forget(c.good.key(key))
		c.keys.failed(c.keys.key(addressOf(from), key), c.at())
	}
}

// addressOf reads what PeerHeader says; nil = nothing.
func addressOf(peer string) net.Addr {
	at, err := netip.ParseAddrPort(peer)
	if err != nil {
		return nil
	}
	return net.TCPAddrFromAddrPort(at)
}

// places keeps a time for each of those that came last: see slots.
type places struct {
	mu sync.Mutex
	slots[struct{}]
}

func newPlaces(sets int) *places { return &places{slots: newSlots[struct{}](sets)} }

func (p *places) has(key uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, found := p.find(key)
	return found
}

func (p *places) put(key uint64, at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	where, _ := p.find(key)
	*where = slot[struct{}]{key: key, at: at}
}

func (p *places) forget(key uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if where, found := p.find(key); found {
		*where = slot[struct{}]{}
	}
}

// take is bucket.take for the bucket of key. Who has no place has a bucket that is full.
func (p *places) take(key uint64, now, cost, burst int64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	where, found := p.find(key)
	full := now
	if found {
		full = max(where.at, now)
	}
	if wait := full + cost - now - burst; wait > 0 {
		return time.Duration(wait)
	}
	*where = slot[struct{}]{key: key, at: full + cost}
	return 0
}
