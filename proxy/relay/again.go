package relay

// replay is a copy of a small request, kept until its answer begins. A backend
// that goes away may refuse a stream that it has not looked at (GOAWAY
// with a lower id, RST_STREAM with REFUSED_STREAM: RFC 9113 section 8.7); a request
// that is still whole here is then sent once more, to the same backend over
// another connection, and the client does not notice.
type replay struct {
	lost  bool // too long, or already used
	end   bool
	used  int
	first [192]byte
	more  []byte
}

// replayBytes is the longest request that is kept.
const replayBytes = 4 << 10

func (r *replay) remember(sg *segment) {
	if r.lost {
		return
	}
	if r.used+sg.size() > replayBytes {
		r.lost, r.more = true, nil
		return
	}
	r.add(sg.body)
	r.add(sg.suffix)
	r.end = r.end || sg.end
}

func (r *replay) add(b []byte) {
	if r.more == nil && r.used+len(b) <= len(r.first) {
		copy(r.first[r.used:], b)
	} else {
		if r.more == nil {
			r.more = append(make([]byte, 0, 2*(r.used+len(b))), r.first[:r.used]...)
		}
		r.more = append(r.more, b...)
	}
	r.used += len(b)
}

func (r *replay) bytes() []byte {
	if r.more != nil {
		return r.more
	}
	return r.first[:r.used]
}

// sendAgain puts the whole request on another connection of the same backend. It
// says false where that is not possible.
func (s *Stream) sendAgain(t *turn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.again.lost || s.answered || s.phase != opened {
		return false
	}
	s.again.lost = true
	body := append([]byte(nil), s.again.bytes()...)
	s.back = &half{stream: s}
	s.phase = waiting
	if len(body) > 0 || s.again.end {
		s.back.queue.push(segment{body: body, end: s.again.end})
	}
	s.backend.assign(s, t)
	return true
}
