package relay

// split takes the first n bytes of the body off s, with their share of credit;
// what is left keeps the rest and END_STREAM.
func (s *segment) split(n int) segment {
	if n == len(s.body) && s.chunk != nil {
		first := *s
		first.end = false
		s.chunk, s.frame, s.body, s.credit = nil, nil, nil, 0
		return first
	}
	first := segment{chunk: s.chunk, body: s.body[:n], from: s.from, credit: min(n, s.credit), mixed: s.mixed}
	if s.frame != nil {
		first.frame = s.frame[:frameHead+n]
	}
	if s.chunk != nil {
		s.chunk.hold()
	}
	s.credit -= first.credit
	s.frame, s.body = nil, s.body[n:]
	return first
}

// discard takes the first n bytes of the body off s and owes their credit, and
// what is left of it, padding say, with the last of them.
func (s *segment) discard(n int, t *turn) {
	if n == 0 && len(s.body) > 0 {
		return
	}
	gone := s.split(n)
	t.owe(gone.from, gone.credit)
	gone.drop()
	if len(s.body) == 0 {
		t.owe(s.from, s.credit)
		s.credit = 0
	}
}

// inserts says that p only puts bytes in.
func (p *piece) inserts() bool { return p.n == 0 && len(p.insert) > 0 }

// extend adds bytes behind the body where one frame takes both.
func (s *segment) extend(b []byte) bool {
	if s.suffix != nil || len(s.body)+len(b) > maxFrame {
		return false
	}
	s.suffix = b
	return true
}

// unshift puts a segment in front.
func (q *segments) unshift(s segment) {
	if q.head > 0 {
		q.head--
		q.list[q.head] = s
		return
	}
	q.list = append(q.list, segment{})
	copy(q.list[1:], q.list)
	q.list[0] = s
}

func (e *Edits) reset() {
	clear(e.pieces)
	e.pieces, e.used, e.Reply = e.pieces[:0], 0, nil
}

// smallSegment: segments up to this size are collected while they wait.
const smallSegment = 512

// park queues a segment that has to wait. Small ones are copied side by side, so
// that a body which comes a byte at a time takes no more room than another.
func (q *segments) park(sg segment, pool *buffers) {
	n := sg.size()
	if n == 0 || n > smallSegment {
		sg.keepSmall(pool)
		q.push(sg)
		return
	}
	if !q.empty() && q.list[len(q.list)-1].absorb(&sg) {
		return
	}
	k := pool.get(0)
	kept := segment{chunk: k, own: true, from: sg.from, frame: k.buf[:frameHead], body: k.buf[frameHead:frameHead]}
	kept.absorb(&sg)
	q.push(kept)
}

// absorb takes another segment's bytes in behind its own, where there is room.
func (s *segment) absorb(o *segment) bool {
	n := o.size()
	if !s.own || s.end || s.suffix != nil || cap(s.body)-len(s.body) < n {
		return false
	}
	s.body = append(append(s.body, o.body...), o.suffix...)
	if s.frame != nil {
		s.frame = s.frame[:frameHead+len(s.body)]
	}
	s.credit += o.credit
	s.end = o.end
	if s.from == nil {
		s.from = o.from
	}
	o.drop()
	return true
}
