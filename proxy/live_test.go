package proxy

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
)

func TestEndCutsEveryStreamOfTheSession(t *testing.T) {
	for _, tc := range []struct {
		why    error
		reason string
	}{
		{sessions.ErrClosed, "SESSION_CLOSED"},
		{fmt.Errorf("session s: %w", sessions.ErrClosed), "SESSION_CLOSED"},
		{&sessions.FailedError{Reason: "lost"}, "SESSION_FAILED"},
		{nil, "SESSION_CLOSED"},
		{sessions.ErrUnavailable, "SESSION_CLOSED"}, // not an end: never a reason to come back
	} {
		t.Run(fmt.Sprint(tc.why), func(t *testing.T) {
			tr := newTestRouter(t, nil)
			bob := sessions.NewRoute(sessions.Session{ID: bobSession, Owner: "bob", Org: "acme"}, tr.cluster)
			tr.registry.set(bobSession, bob)
			one, two := tr.send(sparkHead("ExecutePlan")), tr.send(sparkHead("Config"))
			other := tr.send(sparkHead("Config", "x-session-id: "+bobSession, "authorization: Bearer "+bobToken))
			if n := tr.live.Streams(aliceSession); n != 2 {
				t.Errorf("%d streams", n)
			}
			tr.live.End(aliceSession, tc.why)
			for _, s := range []*fakeStream{one, two} {
				if s.reply == nil || reasonOf(t, s.reply) != tc.reason {
					t.Errorf("got %+v", s.reply)
				}
				s.finish(relay.Stats{})
			}
			if other.reply != nil {
				t.Error("cut the stream of another session")
			}
			other.finish(relay.Stats{})
			if n := tr.live.Streams(aliceSession); n != 0 {
				t.Errorf("%d streams left", n)
			}
		})
	}
}

func TestStreamThatEndedIsNotCut(t *testing.T) {
	tr := newTestRouter(t, nil)
	s := tr.send(sparkHead("Config"))
	s.finish(relay.Stats{Status: "0"})
	tr.live.End(aliceSession, sessions.ErrClosed)
	if s.reply != nil {
		t.Error("cut after its end")
	}
}

// A stream may be admitted by a route of the moment before its session ended,
// and come to Live only after End did.
func TestStreamThatComesLate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before func(*testRouter)
	}{
		{"session that had streams", func(tr *testRouter) { tr.send(sparkHead("Config")).finish(relay.Stats{}) }},
		{"session never seen here", func(*testRouter) {}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTestRouter(t, nil)
			tc.before(tr)
			tr.live.End(aliceSession, sessions.ErrClosed)
			tr.live.Sweep()
			s := tr.send(sparkHead("ExecutePlan"))
			if s.backend != nil || reasonOf(t, s.reply) != "SESSION_CLOSED" {
				t.Errorf("got %+v", s.reply)
			}
		})
	}
}

func TestSweepForgetsWhatIsUnused(t *testing.T) {
	tr := newTestRouter(t, nil)
	known := func() (n int) {
		for i := range tr.live.shards {
			n += len(tr.live.shards[i].sessions)
		}
		return n
	}
	h := sparkHead("Config")
	s := tr.send(h)
	for range 3 {
		tr.live.Sweep()
		tr.engines.sweep()
	}
	if known() != 1 || len(tr.engines.known) != 1 {
		t.Fatalf("swept away under a stream: %d sessions, %d engines", known(), len(tr.engines.known))
	}
	s.finish(relay.Stats{})
	for range 2 {
		tr.live.Sweep()
		tr.engines.sweep()
	}
	if known() != 0 || len(tr.engines.known) != 0 {
		t.Errorf("%d sessions and %d engines are kept", known(), len(tr.engines.known))
	}
	again := tr.send(h) // by the memo of a time before
	if again.backend == nil || again.backend == s.backend {
		t.Errorf("got %+v on the engine that was closed", again.reply)
	}
	if n := tr.live.Streams(aliceSession); n != 1 {
		t.Errorf("%d streams are known", n)
	}
	tr.live.End(aliceSession, sessions.ErrClosed)
	if again.reply == nil {
		t.Error("a stream that came after the sweep is not cut")
	}
	again.finish(relay.Stats{})
}

// A session that failed here is woken: it goes on by the route of its next generation,
// whatever of the one before comes late. A close ends them all.
func TestFailedSessionIsWoken(t *testing.T) {
	tr := newTestRouter(t, nil)
	route := func(generation uint64) *sessions.Route {
		return sessions.NewRoute(sessions.Session{ID: aliceSession, Owner: "alice", Org: "acme", Generation: generation}, tr.cluster, sparkUUID)
	}
	send := func(generation uint64) *fakeStream {
		tr.registry.set(aliceSession, route(generation))
		return tr.send(sparkHead("ExecutePlan"))
	}
	failed := &sessions.FailedError{Session: aliceSession, Reason: "elsewhere", Generation: 2}
	first := send(2)
	tr.live.End(aliceSession, failed)
	late := send(2)
	woken := send(3)
	tr.live.End(aliceSession, failed) // heard again
	for _, s := range []*fakeStream{first, late} {
		if s.reply == nil || reasonOf(t, s.reply) != "SESSION_FAILED" {
			t.Errorf("of the generation that failed: %+v", s.reply)
		}
	}
	if woken.reply != nil || woken.backend == nil {
		t.Errorf("of the next one: %+v", woken.reply)
	}
	tr.live.End(aliceSession, sessions.ErrClosed)
	tr.live.End(aliceSession, failed)
	for _, s := range []*fakeStream{woken, send(4)} {
		if s.reply == nil || reasonOf(t, s.reply) != "SESSION_CLOSED" {
			t.Errorf("after the close: %+v", s.reply)
		}
	}
	for _, s := range []*fakeStream{first, late, woken} {
		s.finish(relay.Stats{})
	}
}

// Streams come and go while their session ends: each one is refused or cut.
func TestEndRacesWithStreams(t *testing.T) {
	tr := newTestRouter(t, nil)
	var wg sync.WaitGroup
	results := make(chan *fakeStream, 400)
	for range 4 {
		wg.Go(func() {
			h := sparkHead("Config")
			for range 100 {
				results <- tr.send(h)
			}
		})
	}
	wg.Go(func() { tr.live.End(aliceSession, sessions.ErrClosed) })
	wg.Go(tr.live.Sweep)
	wg.Wait()
	close(results)
	for s := range results {
		s.mu.Lock()
		if s.reply == nil {
			t.Error("a stream outlived its session")
		}
		s.mu.Unlock()
		s.finish(relay.Stats{})
	}
	if n := tr.live.Streams(aliceSession); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

// The end of one token ends the streams that came by it, those that come late
// too, and no others of its session.
func TestRevokeCutsTheStreamsOfTheToken(t *testing.T) {
	tr := newTestRouter(t, nil)
	one, two := tr.send(sparkHead("ExecutePlan")), tr.send(sparkHead("Config"))
	mine := "j1"
	tr.live.Revoke(aliceSession, "another "+mine+"x")
	if one.reply != nil || two.reply != nil {
		t.Fatal("cut by another token's end")
	}
	tr.live.Revoke(aliceSession, "another "+mine)
	for _, s := range []*fakeStream{one, two, tr.send(sparkHead("ExecutePlan"))} {
		if s.reply == nil || reasonOf(t, s.reply) != "TOKEN_REVOKED" {
			t.Errorf("got %+v", s.reply)
		}
		s.finish(relay.Stats{})
	}
	if n := tr.live.Streams(aliceSession); n != 0 {
		t.Errorf("%d streams left", n)
	}
}

// A route that knows of the revocation lets nothing in, whatever Live knows.
func TestRevokedTokenIsRefused(t *testing.T) {
	tr := newTestRouter(t, nil)
	route := aliceRoute(tr.cluster)
	route.Session.Revoked = "j1"
	tr.registry.set(aliceSession, route)
	s := tr.send(sparkHead("ExecutePlan"))
	if s.backend != nil || reasonOf(t, s.reply) != "TOKEN_REVOKED" {
		t.Errorf("got %+v", s.reply)
	}
}
