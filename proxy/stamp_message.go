package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unicode/utf8"

	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/protobuf/encoding/protowire"
)

// newSessionLen is the length of new_session_id as a field: tag, length, UUID.
const newSessionLen = 2 + 36

// States of stamp.asking. Whoever comes second, the answer or the Hold, sees the
// other and goes on.
const (
	askNone uint32 = iota
	askRunning
	askHeld
	askAnswered
)

// stampUser is what the stamps of one caller share: any number of streams, at
// the same time. It is worth keeping with the caller's verified token.
type stampUser struct {
	tail []byte // user_context { user_id: <subject> } as field 2
	last atomic.Pointer[sessions.SparkID]
}

var errSubject = errors.New("stamp: the subject is empty or not UTF-8")

// newStampUser makes the stamp of a verified subject.
func newStampUser(subject string) (*stampUser, error) {
	if subject == "" || !utf8.ValidString(subject) {
		return nil, errSubject
	}
	inner := protowire.AppendString(protowire.AppendTag(nil, fieldUserID, protowire.BytesType), subject)
	tail := protowire.AppendBytes(protowire.AppendTag(nil, fieldUser, protowire.BytesType), inner)
	return &stampUser{tail: tail}, nil
}

// spark turns the bytes of a session_id into a SparkID. A client sends the same
// one all the time, so the last one is kept and costs a comparison. nil: it is
// not a canonical UUID.
func (u *stampUser) spark(b []byte) *sessions.SparkID {
	if last := u.last.Load(); last != nil && string(*last) == string(b) {
		return last
	}
	id, ok := sessions.ParseSparkID(string(b))
	if !ok {
		return nil
	}
	u.last.Store(&id)
	return &id
}

// admit looks at the prefix of a message.
func (s *stamp) admit() error {
	switch length := s.follow.Length(); {
	case s.follow.Flag() == 1:
		return errCompressed
	case s.follow.Flag() != 0:
		return faultFraming("the flag byte is neither 0 nor 1")
	case s.cfg.MaxMessage > 0 && length > s.cfg.MaxMessage:
		return &tooLargeFault{Limit: s.cfg.MaxMessage}
	case length+s.added > relay.MaxMessage:
		return &tooLargeFault{Limit: relay.MaxMessage - s.added}
	}
	return nil
}

// lengthen writes the length that the message will have into its prefix.
func (s *stamp) lengthen(prefix []byte) {
	binary.BigEndian.PutUint32(prefix[1:relay.PrefixLen], uint32(s.follow.Length()+s.added))
}

// event acts on what the Follower stopped at. hold: the registry was asked.
func (s *stamp) event(ev relay.Event, e *relay.Edits) (hold bool, fault error) {
	switch ev {
	case relay.EventField:
		return s.field(s.follow.Slot())
	case relay.EventEnd:
		return s.complete(e)
	case relay.EventFault:
		return false, faultMalformed(&s.follow)
	default: // EventMessage was dealt with in prefix
		return false, nil
	}
}

// field acts on the value of a field that is complete.
func (s *stamp) field(slot int) (hold bool, fault error) {
	switch {
	case slot == slotSession:
		return s.sparkSession()
	case slot == slotOperation:
		s.follows.Store(true)
		return false, s.host.operates(s.operation())
	case slot == slotObserved:
		s.observes()
	case s.method.Clones: // slotNewSession; dealt with when the session is certain
		s.cloned = true
	default: // slotReattach
		if v, _ := s.follow.Varint(slotReattach); v != 0 {
			s.reattach.Store(true)
		}
	}
	return false, nil
}

// sparkSession checks the session_id of a message: the first one of a stream is
// bound, the others must repeat it.
func (s *stamp) sparkSession() (hold bool, fault error) {
	text, _ := s.follow.Text(slotSession)
	id := s.user.spark(text)
	if id == nil {
		return false, faultSession("and this one is not")
	}
	s.named = true
	if s.bound {
		if *id != s.spark() {
			return false, errSparkChanged
		}
		return false, nil
	}
	s.session.Store(id)
	return s.bind(*id)
}

// complete acts on the end of a message.
func (s *stamp) complete(e *relay.Edits) (hold bool, fault error) {
	switch {
	case !s.named:
		return false, faultSession("and this request has none")
	case !s.method.single():
		s.capture.end()
		e.Insert(s.user.tail)
		e.Insert(s.claimed())
		return false, nil
	}
	s.capture.end()
	s.ended = true
	if s.method.Clones {
		return s.newSession()
	}
	return s.note()
}

// note has the journal know of the request, if it changes the session, before the
// engine has it whole. hold: the journal was asked and has not answered.
func (s *stamp) note() (hold bool, fault error) {
	if s.noted || !s.capture.has() {
		return false, nil
	}
	s.noted = true
	return s.ask(func() { s.host.record(&s.capture, s.hear) })
}

// newSession binds the id that CloneSession will give to the new session.
func (s *stamp) newSession() (hold bool, fault error) {
	id, fault := s.newSessionID()
	if fault != nil {
		return false, fault
	}
	s.clone = protowire.AppendTag(make([]byte, 0, newSessionLen), fieldNewSession, protowire.BytesType)
	s.clone = protowire.AppendString(s.clone, string(id))
	return s.ask(func() { s.host.sparkClone(s.spark(), id, s.hear) })
}

func (s *stamp) newSessionID() (sessions.SparkID, error) {
	if s.cloned {
		text, _ := s.follow.Text(slotNewSession)
		id, ok := sessions.ParseSparkID(string(text))
		if !ok {
			return "", faultSession("and the new_session_id is not")
		}
		return id, nil
	}
	id, err := s.cfg.NewID()
	if err != nil {
		return "", fmt.Errorf("new session id: %w", err)
	}
	return id, nil
}

// bind sees to it that the id is bound to the caller's session. hold: the
// registry was asked and has not answered.
func (s *stamp) bind(id sessions.SparkID) (hold bool, fault error) {
	if s.host.sparkBound(id) {
		s.bound = true
		return false, nil
	}
	return s.ask(func() { s.host.sparkBind(id, s.hear) })
}

// ask asks by ask, which has the answer come to hear.
func (s *stamp) ask(ask func()) (hold bool, fault error) {
	s.asking.Store(askRunning)
	ask()
	if s.asking.CompareAndSwap(askRunning, askHeld) {
		return true, nil
	}
	return s.answered()
}

// hear takes the registry's answer, on any goroutine.
func (s *stamp) hear(err error) {
	s.answer = err
	if s.asking.Swap(askAnswered) == askHeld {
		s.host.resume()
	}
}

// answered acts on the registry's answer if one is due. hold: it has not come.
func (s *stamp) answered() (hold bool, fault error) {
	switch s.asking.Load() {
	case askHeld:
		return true, nil
	case askAnswered:
		s.asking.Store(askNone)
		s.bound = s.answer == nil
		return false, s.answer
	}
	return false, nil
}

// finish acts on the end of the client's side: all messages must be complete. An
// upload counts from here on, so this is where the journal is told of it.
func (s *stamp) finish(e *relay.Edits) (hold bool, fault error) {
	switch {
	case s.ended:
		e.Insert(s.clone)
		e.Insert(s.user.tail)
		e.Insert(s.claimed())
	case s.follow.InMessage():
		return false, faultTruncated()
	case !s.follow.Between():
		return false, faultFraming("it ends inside a message's prefix")
	case s.messages == 0:
		return false, errNoMessage
	default:
		return s.note()
	}
	return false, nil
}
