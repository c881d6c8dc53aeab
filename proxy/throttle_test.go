package proxy

import (
	"fmt"
	"net"
	"testing"
	"time"
	"unsafe"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
)

var (
	attacker = &net.TCPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 4711}
	sameNAT  = &net.TCPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 4712}
	elsehost = &net.TCPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 4711}
)

// sendFrom is send from another address.
func (tr *testRouter) sendFrom(from net.Addr, h *relay.Header) *fakeStream {
	s := newStream(h)
	s.peer.Addr = from
	tr.route(s)
	<-s.decided
	return s
}

// guess shows the n-th forged token for a session, and returns the reason of the refusal.
func (tr *testRouter) guess(t *testing.T, from net.Addr, session string, n int) string {
	t.Helper()
	s := tr.sendFrom(from, sparkHead("Config", fmt.Sprintf("authorization: Bearer forged.%d", n), "x-session-id: "+session))
	if s.backend != nil {
		t.Fatal("a forged token got in")
	}
	return reasonOf(t, s.reply)
}

func newThrottledRouter(t *testing.T) (*testRouter, *hand) {
	t.Helper()
	clock := newHand()
	tr := newTestRouter(t, func(c *RouterConfig) { c.Now = clock.now })
	for i := range throttleFree {
		if got := tr.guess(t, attacker, aliceSession, i); got != "TOKEN_INVALID" {
			t.Fatalf("failure %d: %s", i+1, got)
		}
	}
	return tr, clock
}

// Ten thousand guesses cost few checks, and each answer says that nobody looked.
func TestGuessingIsThrottled(t *testing.T) {
	tr, clock := newThrottledRouter(t)
	looked := 0
	for i := range 10_000 {
		switch got := tr.guess(t, attacker, aliceSession, i); got {
		case "TOKEN_INVALID":
			looked++
		case "TOKENS_THROTTLED":
		default:
			t.Fatal(got)
		}
		clock.forward(time.Millisecond)
	}
	// 10 s: after 0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2 and 6.4 s.
	if looked < 5 || looked > 9 {
		t.Errorf("%d tokens were looked at in 10 s", looked)
	}
	r := tr.sendFrom(attacker, sparkHead("Config", "authorization: Bearer forged")).reply
	if info, retry := detailsOf(t, statusOf(t, r)); info.GetReason() != "TOKENS_THROTTLED" || retry != nil {
		t.Errorf("refused with %v, %v; a RetryInfo has clients guess on by themselves", info, retry)
	}
}

// A good user is not touched: one of another session at the same address, one of the
// same session at another address, and, where the token was seen before, one of the
// same session at the same address.
func TestThrottleLeavesOthersAlone(t *testing.T) {
	tr, _ := newThrottledRouter(t)
	tr.guess(t, attacker, aliceSession, 1)
	if got := tr.guess(t, attacker, aliceSession, 2); got != "TOKENS_THROTTLED" {
		t.Fatalf("not throttled: %s", got)
	}
	if got := tr.guess(t, elsehost, aliceSession, 3); got != "TOKEN_INVALID" {
		t.Errorf("another address: %s", got)
	}
	if got := tr.guess(t, sameNAT, bobSession, 4); got != "TOKEN_INVALID" {
		t.Errorf("another session: %s", got)
	}
	if s := tr.sendFrom(elsehost, sparkHead("Config")); s.backend == nil {
		t.Error("the session's user elsewhere did not get in")
	}
	tr.registry.set(bobSession, sessions.NewRoute(sessions.Session{ID: bobSession, Owner: "bob", Org: "acme", State: sessions.Active}, tr.cluster))
	if s := tr.sendFrom(sameNAT, sparkHead("Config", "authorization: Bearer "+bobToken, "x-session-id: "+bobSession)); s.backend == nil {
		t.Error("another session's user at the same address did not get in")
	}
	if s := tr.sendFrom(sameNAT, sparkHead("Config")); s.backend != nil {
		t.Error("an unknown token was looked at")
	}
	tr.tokens.remembered = map[string]bool{aliceToken: true}
	if s := tr.sendFrom(sameNAT, sparkHead("Config")); s.backend == nil {
		t.Error("a token that is known did not get in")
	}
}

// Whoever stops gets in after 10 s at most, and after a minute has a clean slate.
func TestThrottleForgets(t *testing.T) {
	tr, clock := newThrottledRouter(t)
	for i := range 20 {
		tr.guess(t, attacker, aliceSession, i)
		clock.forward(throttleMost)
	}
	if s := tr.sendFrom(sameNAT, sparkHead("Config")); s.backend == nil {
		t.Error("10 s after the last guess a good token did not get in")
	}
	clock.forward(throttleForget)
	for i := range throttleFree {
		if got := tr.guess(t, attacker, aliceSession, i); got != "TOKEN_INVALID" {
			t.Fatalf("a minute later, failure %d: %s", i+1, got)
		}
	}
}

// Tokens that are genuine are no guesses, however useless: a job that goes on with
// an expired one must not close the door to its successor.
func TestGenuineTokensAreNoGuesses(t *testing.T) {
	clock := newHand()
	for _, err := range []error{
		&auth.ExpiredError{Expired: clock.now()}, auth.ErrNotYet, auth.ErrClaims, auth.ErrIssuer, auth.ErrAudience,
		auth.ErrIssuerAway, auth.ErrOutside, auth.ErrAPIKey,
	} {
		tr := newTestRouter(t, func(c *RouterConfig) { c.Now = clock.now })
		tr.tokens.fail("late", err)
		for range 3 * throttleFree {
			s := newStream(sparkHead("Config", "authorization: Bearer late"))
			s.peer.Addr = attacker
			tr.route(s)
		}
		if s := tr.sendFrom(sameNAT, sparkHead("Config")); s.backend == nil {
			t.Errorf("%v: the good token after it was refused", err)
		}
	}
}

// An address of IPv6 is one of 2^64 that its machine has.
func TestThrottleTakesNetworksOfIPv6(t *testing.T) {
	th := newThrottle()
	key := func(ip string) uint64 { return th.key(&net.TCPAddr{IP: net.ParseIP(ip)}, "s") }
	if key("2001:db8::1") != key("2001:db8::ffff:2") {
		t.Error("two addresses of one network count apart")
	}
	if key("2001:db8::1") == key("2001:db8:0:1::1") || key("192.0.2.1") == key("192.0.2.2") {
		t.Error("two networks count together")
	}
	if key("192.0.2.1") != key("::ffff:192.0.2.1") {
		t.Error("an IPv4 address has two names")
	}
}

// However many sessions are tried, the memory is what it was.
func TestThrottleIsBounded(t *testing.T) {
	th := newThrottle()
	size := unsafe.Sizeof(th.sets[0]) * uintptr(len(th.sets))
	if size > 512<<10 {
		t.Errorf("it takes %d bytes", size)
	}
	i := 0
	if n := testing.AllocsPerRun(100_000, func() {
		th.failed(th.key(attacker, sessionNames[i%len(sessionNames)])+uint64(i)*7919, int64(i))
		i++
	}); n != 0 {
		t.Errorf("%v allocations for a failure", n)
	}
	if len(th.sets) != throttleSets {
		t.Error("it grew")
	}
}

var sessionNames = [...]string{aliceSession, bobSession}

// The answer to a throttled guess costs less than a check of a signature: nothing is
// looked at, and the reply is one that was made before.
func TestThrottledGuessCostsNothing(t *testing.T) {
	tr, _ := newThrottledRouter(t)
	tr.guess(t, attacker, aliceSession, 1)
	q := tr.readRequest(sparkHead("Config", "authorization: Bearer forged"), &relay.Peer{Addr: attacker, TLS: true})
	before := tr.tokens.verified
	if n := testing.AllocsPerRun(1000, func() {
		if _, refusal := tr.identify(q); refusal != &refuseGuesses {
			t.Fatal("looked at")
		}
		_ = refuseGuesses.Reply()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if tr.tokens.verified != before {
		t.Error("a signature was checked")
	}
}
