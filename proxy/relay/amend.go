package relay

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// Amender is what a Call may be besides: it adds to each message of the answer.
type Amender interface {
	// Suffix is asked once, when the answer's headers have come. What it returns is
	// put at the end of each message, and the message's length says so; a message
	// that is compressed stays as it is. nil = the answer passes untouched. It must
	// not block, and what it returned must not change.
	Suffix() []byte
}

// askSuffix asks the call whether it adds to the answer. The backend's reader calls it.
func (s *Stream) askSuffix() {
	if a, ok := s.call.(Amender); ok {
		s.suffix = a.Suffix()
	}
}

// amend sends a piece of the answer's body on, with the suffix where a message ends
// in it.
func (s *Stream) amend(sg segment, t *turn) {
	e := &t.edits
	e.reset()
	longest := s.follow.amend(sg.body, s.suffix, e)
	if most := s.server.limits.MaxMessage; most > 0 && longest > uint64(most) {
		sg.drop()
		s.back.conn.faultHalf(s.back, http2.ErrCodeCancel, t)
		s.broken(ErrMessageTooLong, t)
		return
	}
	s.emitPieces(sg, e, false, (*Stream).answer, t)
}

// answer sends a piece of the answer to the client.
func (s *Stream) answer(sg segment, t *turn) {
	c := s.front.conn
	c.mu.Lock()
	s.resp.out += uint64(len(sg.body) + len(sg.suffix))
	c.deliver(&s.front, sg, t)
	c.mu.Unlock()
}

// amend follows a piece of the body and says through e where suffix goes. A prefix
// that comes in pieces is kept back until it is whole: its first byte of length
// depends on the last. It returns the longest length declared in it.
func (f *responseFollow) amend(p, suffix []byte, e *Edits) (longest uint64) {
	for len(p) > 0 {
		if f.left > 0 {
			n := int(min(f.left, uint64(len(p))))
			e.Keep(n)
			p = p[n:]
			if f.left -= uint64(n); f.left == 0 {
				f.suffix(suffix, e)
			}
			continue
		}
		n := copy(f.prefix[f.got:], p)
		f.got += n
		if f.got < len(f.prefix) {
			e.Drop(n)
			return longest
		}
		f.got = 0
		f.left = uint64(binary.BigEndian.Uint32(f.prefix[1:]))
		longest = max(longest, f.left)
		f.plain = f.prefix[0] == 0 && f.left+uint64(len(suffix)) <= MaxMessage
		b := f.prefix
		if f.plain {
			binary.BigEndian.PutUint32(b[1:], uint32(f.left)+uint32(len(suffix))) //nolint:gosec // within MaxMessage
		}
		if n == len(b) {
			copy(p, b[:])
			e.Keep(n)
		} else {
			e.Drop(n)
			e.Insert(append([]byte(nil), b[:]...))
		}
		p = p[n:]
		f.show(p)
		if f.left == 0 {
			f.suffix(suffix, e)
		}
	}
	return longest
}

func (f *responseFollow) suffix(suffix []byte, e *Edits) {
	if f.plain {
		e.Insert(suffix)
	}
}
