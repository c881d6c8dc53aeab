package proxy

import (
	"bytes"
	"errors"
	"hash/maphash"
	"math"
	"sync"

	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
)

// liveShards spreads the sessions over so many locks. A power of two.
const liveShards = 64

// Live knows the open streams of every session, so that the end of a session
// ends them, and that of a token those that came by it. Its End and Revoke are
// what a sessions.Resolver wants as OnEnd and OnRevoke.
//
// A session that ended stays known as ended until the second Sweep after it: a
// stream that was admitted by a route of the moment before finds it so and is
// refused, however the two goroutines interleave. So do the tokens that were revoked.
// Of one that failed that is so up to the generation that failed: it may be woken.
type Live struct {
	seed   maphash.Seed
	shards [liveShards]liveShard
}

type liveShard struct {
	mu       sync.Mutex
	sessions map[sessions.ID]*liveSession
}

// liveSession is the streams of one session. A route's memo points at it, so it
// may outlive its place in the shard; then gone is set and it takes no streams.
type liveSession struct {
	id sessions.ID

	mu    sync.Mutex
	head  *liveStream
	open  int
	ended *ending // what streams are cut with, once the session ended
	idle  bool    // unused when Sweep last looked
	gone  bool    // no longer in the shard

	revoked string  // as in sessions.Session.Revoked
	cut     *ending // what streams are cut with that came by those tokens

	meters *meters // nil until a stream was admitted; it and what follows are set once
	owner  *ownerMeter
	meter  meter
	tokens map[string]*meter // by id of the token
}

// ending is why streams are cut.
type ending struct {
	row   Refusal
	reply *relay.Reply
	last  uint64 // the session's last generation that it ends
	quota bool   // the stream alone may not pass; another one may
}

func newEnding(row Refusal) *ending { return &ending{row: row, reply: row.Reply()} }

// liveStream is a place in the list of a session's streams; it is part of the
// stream's call, so that joining the list allocates nothing.
type liveStream struct {
	stream     cutter
	runs       operated
	released   bool   // its operation was, while it was open; guarded by of.mu
	token      string // id of the token that it came by
	generation uint64 // of its route
	of         *liveSession
	prev, next *liveStream
}

// cutter is the part of a relay.Stream that ends it, from any goroutine.
type cutter interface{ Cut(*relay.Reply) }

// operated is the part of a call that knows its operation.
type operated interface {
	// lasting is the id of the operation that a client may come back for, nil = there
	// is none. From any goroutine.
	lasting() []byte
}

// release notes that an operation is over, though streams of it may still be open:
// clients release it when they have its last message, and end the stream after that.
func (s *liveSession) release(operation []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := s.head; n != nil; n = n.next {
		if bytes.Equal(n.runs.lasting(), operation) {
			n.released = true
		}
	}
}

// unreleased calls f unless the stream's operation was released. A release waits for f.
func (s *liveSession) unreleased(n *liveStream, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !n.released {
		f()
	}
}

// NewLive makes an empty registry.
func NewLive() *Live {
	l := &Live{seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].sessions = make(map[sessions.ID]*liveSession)
	}
	return l
}

// End cuts every stream of the session, and every one that was admitted but has
// not joined yet; where it failed, those of the generation that did and before. why
// chooses the words, as in the errors of package sessions.
func (l *Live) End(id sessions.ID, why error) {
	row, ok := refuseRoute(why, string(id))
	if !ok || row.Reason == refuseRegistry.Reason {
		row = refuseSessionClosed.With("session", string(id))
	}
	e := newEnding(row)
	e.last = math.MaxUint64
	var failed *sessions.FailedError
	if errors.As(why, &failed) && failed.Generation > 0 {
		e.last = failed.Generation
	}
	for _, s := range l.session(id).end(e) {
		s.Cut(e.reply) // outside the lock: it may end in leave
	}
}

// Revoke cuts every stream of the session that came by one of these tokens, as in
// sessions.Session.Revoked, and every one that was admitted but has not joined yet.
func (l *Live) Revoke(id sessions.ID, revoked string) {
	e := newEnding(refuseTokenRevoked.With("session", string(id)))
	for _, s := range l.session(id).revoke(revoked, e) {
		s.Cut(e.reply)
	}
}

// Streams says how many streams the session has open here.
func (l *Live) Streams(id sessions.ID) int {
	sh := l.shard(id)
	sh.mu.Lock()
	s := sh.sessions[id]
	sh.mu.Unlock()
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// Sweep forgets sessions that have had no stream since the Sweep before.
func (l *Live) Sweep() {
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for id, s := range sh.sessions {
			if s.retire() {
				delete(sh.sessions, id)
				s.meters.leaves(s.owner)
			}
		}
		sh.mu.Unlock()
	}
}

func (l *Live) shard(id sessions.ID) *liveShard {
	return &l.shards[maphash.String(l.seed, string(id))%liveShards]
}

// session returns the session's entry, making one where there is none.
func (l *Live) session(id sessions.ID) *liveSession {
	sh := l.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.sessions[id]
	if s == nil {
		s = &liveSession{id: id}
		sh.sessions[id] = s
	}
	s.mu.Lock()
	s.idle = false // whoever asks is about to use it
	s.mu.Unlock()
	return s
}

// join adds a stream. ended is not nil where the session is over for it; ok is false
// where the entry is no longer the session's, and another must be asked for.
func (s *liveSession) join(n *liveStream) (ended *ending, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil && n.generation <= s.ended.last {
		return s.ended, !s.gone
	}
	if s.gone {
		return nil, false
	}
	if sessions.IsRevoked(s.revoked, n.token) {
		return s.cut, true
	}
	n.of, n.next = s, s.head
	if s.head != nil {
		s.head.prev = n
	}
	s.head = n
	s.open++
	s.idle = false
	return nil, true
}

// leave takes a stream out. Leaving twice, or without having joined, does nothing.
func (n *liveStream) leave() {
	s := n.of
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.of = nil
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		s.head = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	}
	n.prev, n.next = nil, nil
	s.open--
}

func (s *liveSession) revoke(tokens string, why *ending) (open []cutter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked, s.cut = tokens, why
	for n := s.head; n != nil; n = n.next {
		if sessions.IsRevoked(tokens, n.token) {
			open = append(open, n.stream)
		}
	}
	return open
}

func (s *liveSession) end(why *ending) (open []cutter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil || s.ended.last <= why.last {
		s.ended = why
	}
	for n := s.head; n != nil; n = n.next {
		if n.generation <= why.last {
			open = append(open, n.stream)
		}
	}
	return open
}

func (s *liveSession) retire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == 0 && s.idle && s.rested() {
		s.gone = true
		return true
	}
	s.idle = true
	return false
}
