package proxy

import (
	"sync/atomic"

	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
)

// stamp is the half of a relay.Call that reads and amends what a Spark client
// sends. A call embeds it and adds what happens when the engine fails:
//
//	type call struct {
//		stamp
//		...
//	}
//	c.begin(&cfg, user, method, c)
//	s.Forward(backend, header, c)
//
// On its way to the engine each message is checked and made longer at its end:
//
//	prefix     its length grows by the stamp's
//	field 1    session_id: once, a canonical UUID, and bound to the caller's
//	           session before the engine sees the first byte of the stream
//	...        passes untouched, whatever its size
//	stamp      user_context { user_id: <subject> }: the last one wins, so this
//	           is the user, whoever the client says it is
//
// The stamp of a method that takes one message goes out with the end of the
// stream, which is when an engine starts: whatever was wrong with the message, or
// came after it, the engine never had it complete and nothing ran.
//
// CloneSession names a second session. It is bound like the first one before the
// message is complete; where the client leaves it to the server, Sconce makes
// the id, since one that the engine made would be bound to nobody. Either way
// the id is appended as field 4: a value given twice is that value, and the
// length to declare does not depend on what the message will say.
//
// A stamp belongs to one stream. Edit is called by one goroutine at a time;
// what the request said (spark, operation, reattachable) may be asked from any.
// It allocates nothing where the user's last session_id comes again, it
// holds no byte of the stream and it believes no length.
type stamp struct {
	cfg    *stampConfig
	user   *stampUser
	method *Method
	host   stampHost
	follow relay.Follower

	added    uint64                 // bytes put at each message's end
	claims   bool                   // of these, some name the engine's own session id: see observed.go
	claim    []byte                 // those
	observed atomic.Pointer[string] // what the client says that the engine calls its session
	messages int                    // begun so far
	named    bool                   // this message has its session_id
	bound    bool                   // the stream's session is bound, bytes may go on
	ended    bool                   // the one message of a single-message method is complete
	noted    bool                   // the journal was asked about the request
	cloned   bool                   // CloneSession: the message has a new_session_id
	clone    []byte                 // CloneSession: field 4 to append

	capture capture // of what changes the Spark session

	fault  error         // why the stream was refused
	asking atomic.Uint32 // askNone, askRunning, askHeld, askAnswered
	answer error         // of the registry; written before askAnswered

	session  atomic.Pointer[sessions.SparkID]
	follows  atomic.Bool // the Follower has the whole operation_id
	reattach atomic.Bool
}

// stampConfig is what all stamps of a proxy share.
type stampConfig struct {
	// MaxMessage bounds the declared length of a message, in bytes. 0: no bound
	// but protobuf's own, 2 GiB less one byte.
	MaxMessage uint64
	// SessionWithin is how many bytes of a stream's first message may come before
	// its session_id is complete: they wait in memory. 0: 64 KiB. More than
	// relay.Limits.Held is of no use.
	SessionWithin uint64
	// Captures bounds what is kept for the journal; nil = nothing is.
	Captures *captureConfig
	// NewID makes the id of a cloned session where the client names none.
	NewID func() (sessions.SparkID, error)
}

const defaultSessionWithin = 64 << 10

func (c *stampConfig) within() uint64 {
	if c.SessionWithin == 0 {
		return defaultSessionWithin
	}
	return c.SessionWithin
}

// stampHost is the call that a stamp is part of. No method may block.
type stampHost interface {
	// sparkBound says whether the id is known to be bound to the caller's
	// session. It allocates nothing.
	sparkBound(id sessions.SparkID) bool
	// sparkBind binds the id to the caller's session, or learns that it can't
	// be: answer is called exactly once, from any goroutine, also before
	// sparkBind returns.
	sparkBind(id sessions.SparkID, answer func(error))
	// sparkClone binds the id that the caller's Spark session is about to be cloned
	// to. Else it is like sparkBind.
	sparkClone(from, to sessions.SparkID, answer func(error))
	// record has the journal know of an act that is complete but for its end; it
	// answers as sparkBind does.
	record(c *capture, answer func(error))
	// resume is relay.Stream.Resume. It may be called before the relay has seen
	// the Hold that it answers.
	resume()
	// journals says that what changes the Spark session is to be recorded.
	journals() bool
	// carried says that the session's engine is not its first.
	carried() bool
	// serverID is what that engine calls the Spark session; "" = it is not known.
	serverID(id sessions.SparkID) string
	// operates hears the operation_id of a request, once, before the message is
	// complete; an error refuses the request. id is valid during the call; it is
	// nil where stamp.operation is.
	operates(id []byte) error
	// refuse words a fault: one of the errors in stamp_fault.go, or what
	// sparkBind, operates or NewID came back with. nil: the host has taken the rest of
	// the stream upon itself.
	refuse(fault error) *relay.Reply
}

// begin makes s ready for the first byte of a stream's body.
func (s *stamp) begin(cfg *stampConfig, user *stampUser, m *Method, host stampHost) {
	s.cfg, s.user, s.method, s.host = cfg, user, m, host
	s.added = uint64(len(user.tail))
	if m.Clones {
		s.added += newSessionLen
	}
	if host.carried() {
		s.claims = m.Observed != 0
		s.added += claimLen(m)
	}
	s.follow.Start(m.Schema)
	if (m.State != nil || m.Artifacts) && host.journals() {
		s.capture.cfg = cfg.Captures
	}
}

// spark is the session_id of the request, "" if it is not known (yet).
func (s *stamp) spark() sessions.SparkID {
	if id := s.session.Load(); id != nil {
		return *id
	}
	return ""
}

// operation is the operation_id of the request, nil if there is none (yet) or
// it is longer than relay.FollowText. It must not be changed.
func (s *stamp) operation() []byte {
	if !s.follows.Load() {
		return nil
	}
	id, _ := s.follow.Text(slotOperation)
	return id
}

// reattachable says that the client may come back for the operation: the end of
// its stream, by whatever cause, is not the end of the operation.
func (s *stamp) reattachable() bool {
	return s.method.Reattaches || s.reattach.Load()
}

// Edit implements relay.Call.
func (s *stamp) Edit(p []byte, end bool, e *relay.Edits) relay.Verdict {
	v, fault := relay.Cut, s.fault
	if fault == nil {
		v, fault = s.edit(p, end, e)
	}
	if fault != nil {
		s.fault = fault // for good: nothing of the stream passes any more
		e.Reply = s.host.refuse(fault)
		return relay.Cut
	}
	return v
}

func (s *stamp) edit(p []byte, end bool, e *relay.Edits) (relay.Verdict, error) {
	if hold, fault := s.answered(); hold || fault != nil {
		return relay.Hold, fault
	}
	for {
		if s.ended && len(p) > 0 {
			return relay.Cut, errExtraMessage
		}
		n, ev, fault := s.next(p, e)
		if fault != nil {
			return relay.Cut, fault
		}
		p = p[n:]
		if ev == relay.EventNone {
			break
		}
		if hold, fault := s.event(ev, e); hold || fault != nil {
			return relay.Hold, fault
		}
	}
	if end {
		if hold, fault := s.finish(e); hold || fault != nil {
			return relay.Hold, fault
		}
	}
	if !s.bound {
		return relay.Wait, nil
	}
	return relay.Pass, nil
}

// next follows p to the next event and accounts for its bytes.
func (s *stamp) next(p []byte, e *relay.Edits) (int, relay.Event, error) {
	if !s.follow.InMessage() {
		return s.prefix(p, e)
	}
	p = p[:s.reach(len(p))]
	n, ev := s.follow.Next(p)
	s.capture.add(p[:n])
	e.Keep(n)
	if ev == relay.EventNone && !s.bound && s.follow.Offset() == s.cfg.within() {
		return n, ev, faultLate(s.cfg.within())
	}
	return n, ev, nil
}

// reach is how many of n bytes may be followed: up to the end of SessionWithin
// until the session is bound, so that the verdict does not depend on how the
// bytes came.
func (s *stamp) reach(n int) int {
	if s.bound {
		return n
	}
	return int(min(uint64(n), s.cfg.within()-s.follow.Offset()))
}

// prefix follows the prefix of a message and lets it go on with the length
// that the message will have. A prefix that came in pieces is kept back until it
// is whole: its first byte of length depends on the last.
func (s *stamp) prefix(p []byte, e *relay.Edits) (int, relay.Event, error) {
	n, ev := s.follow.Next(p)
	if ev != relay.EventMessage {
		e.Drop(n)
		return n, ev, nil
	}
	if fault := s.admit(); fault != nil {
		return n, ev, fault
	}
	s.messages++
	s.named = false
	s.capture.begin(s.method.State, s.follow.Length())
	if n == relay.PrefixLen {
		s.lengthen(p)
		e.Keep(n)
		return n, ev, nil
	}
	e.Drop(n)
	prefix := s.follow.Prefix()
	b := append([]byte(nil), prefix[:]...)
	s.lengthen(b)
	e.Insert(b)
	return n, ev, nil
}
