package proxy

import (
	"errors"
	"fmt"
	"testing"
	"time"
	"unsafe"

	"github.com/sconce-dev/sconce/sessions"
)

// tries shows so many made-up keys, a millisecond apart, and counts those that are looked up.
func tries(c *Callers, clock *hand, from string, n int) (looked int) {
	for i := range n {
		key := fmt.Sprintf("sck_%d", i)
		if c.May(from, key) == nil {
			looked++
			c.Tried(from, key, fmt.Errorf("find API key: %w", sessions.ErrUnknownKey))
		}
		clock.forward(time.Millisecond)
	}
	return looked
}

// Keys that nobody has cost few reads of the registry, and hold up no good one.
func TestMadeUpKeysAreThrottled(t *testing.T) {
	clock := newHand()
	c := NewCallers(0, clock.now)
	const away, nat = "198.51.100.7:4711", "198.51.100.7:4712"
	c.Tried(nat, "good", nil)
	c.Tried(nat, "revoked since", nil)
	// 10 s: 20 are free, then after 0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2 and 6.4 s.
	if n := tries(c, clock, away, 10_000); n < throttleFree+5 || n > throttleFree+9 {
		t.Errorf("%d keys were looked up in 10 s", n)
	}
	c.Tried(nat, "revoked since", sessions.ErrKeyRevoked)
	for _, tc := range []struct {
		name, from, key string
		may             bool
	}{
		{"another one made up", away, "sck_more", false},
		{"the same network of IPv4 in IPv6", "[::ffff:198.51.100.7]:1", "sck_more", false},
		{"one that was good, from there", nat, "good", true},
		{"one that is good no more", nat, "revoked since", false},
		{"any from elsewhere", "203.0.113.9:4711", "sck_more", true},
		{"from nowhere", "", "sck_more", true},
	} {
		err := c.May(tc.from, tc.key)
		if err == nil != tc.may {
			t.Errorf("%s: %v", tc.name, err)
		}
		if row, ok := RefuseControl(err, ""); !tc.may && (!ok || row.Reason != "KEYS_THROTTLED" || row.RetryAfter != 0) {
			t.Errorf("%s: %v %s", tc.name, ok, row.Reason)
		}
	}
	clock.forward(time.Minute)
	if err := c.May(away, "sck_more"); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

// A key that has ended, or that could not be looked up, counts for nobody else.
func TestKeysThatAreNotMadeUp(t *testing.T) {
	clock := newHand()
	c := NewCallers(0, clock.now)
	const from = "198.51.100.7:4711"
	for range 3 * throttleFree {
		c.Tried(from, "away", sessions.ErrUnavailable)
		c.Tried(from, "expired", sessions.ErrKeyExpired)
	}
	for key, may := range map[string]bool{"away": true, "expired": false, "another": true} {
		if err := c.May(from, key); err == nil != may {
			t.Errorf("%s: %v", key, err)
		}
	}
	if err := c.May("203.0.113.9:1", "expired"); err != nil {
		t.Errorf("the expired one from elsewhere: %v", err)
	}
}

func TestOwnersMayCallSoOften(t *testing.T) {
	clock := newHand()
	c := NewCallers(5, clock.now)
	calls := func(n int, call func() error) (passed int, last error) {
		for range n {
			if err := call(); err == nil {
				passed++
			} else {
				last = err
			}
		}
		return passed, last
	}
	ann := func() error { return c.Enter("acme", "ann") }
	passed, last := calls(100, ann)
	row, ok := RefuseControl(last, "")
	if passed != 50 || !ok || row.Reason != "RATE_LIMITED" || row.Limit != "limits.control_requests" || row.RetryAfter != 200*time.Millisecond {
		t.Errorf("%d passed, then %+v", passed, row)
	}
	if err := errors.Join(c.Enter("acme", "bob"), c.Enter("other", "ann"), c.Enter("acm", "eann")); err != nil {
		t.Errorf("others: %v", err)
	}
	clock.forward(time.Second)
	if passed, _ = calls(100, ann); passed != 5 {
		t.Errorf("%d passed a second later", passed)
	}
	// Of a key that is known no call past the limit is even looked up.
	c.Tried("", "key", nil)
	if passed, last = calls(100, func() error { return c.May("", "key") }); passed != 50 || last == nil {
		t.Errorf("%d calls by one key", passed)
	}
	if passed, _ = calls(1000, func() error { return NewCallers(0, clock.now).Enter("acme", "ann") }); passed != 1000 {
		t.Errorf("without a limit %d pass", passed)
	}
}

// However many there are, it holds the same memory; who comes last has a place.
func TestPlacesAreFixed(t *testing.T) {
	c := NewCallers(1, nil)
	size := len(c.rates.sets)*int(unsafe.Sizeof(c.rates.sets[0])) + len(c.good.sets)*int(unsafe.Sizeof(c.good.sets[0]))
	if size != 320<<10 {
		t.Errorf("%d bytes", size)
	}
	p := newPlaces(4)
	for i := range 1000 {
		key := p.key("owner", fmt.Sprint(i))
		if p.put(key, int64(i)); !p.has(key) {
			t.Fatalf("%d has no place", i)
		}
	}
	kept := 0
	for i := range 1000 {
		if p.has(p.key("owner", fmt.Sprint(i))) {
			kept++
		}
	}
	if kept != 16 {
		t.Errorf("%d are kept, want 16", kept)
	}
	last := p.key("owner", "999")
	if p.forget(last); p.has(last) {
		t.Error("what was forgotten is known")
	}
}
