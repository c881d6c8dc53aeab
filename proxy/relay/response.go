package relay

import (
	"errors"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// responseState is what is known of the answer so far, guarded by the mu of the
// client's connection.
type responseState struct {
	out    uint64 // body bytes handed to the client's connection
	status string
	err    error
}

// responseFollow follows gRPC's length prefixes through the answer, to tell
// whether a break falls inside a message.
type responseFollow struct {
	prefix [5]byte
	got    int
	left   uint64
	plain  bool   // the message is one that amend adds to
	reader Reader // nil = nobody looks
}

// next takes a piece of the body. It returns the longest length declared in it.
func (f *responseFollow) next(p []byte) (longest uint64) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
			continue
		}
		n := copy(f.prefix[f.got:], p)
		f.got += n
		p = p[n:]
		if f.got == len(f.prefix) {
			b := f.prefix
			f.left = uint64(b[1])<<24 | uint64(b[2])<<16 | uint64(b[3])<<8 | uint64(b[4])
			f.got = 0
			longest = max(longest, f.left)
			f.show(p)
		}
	}
	return longest
}

func (f *responseFollow) midMessage() bool { return f.got > 0 || f.left > 0 }

// responseHeaders takes a header block from the backend: interim, first or last.
func (s *Stream) responseHeaders(hd *Header, end bool, t *turn) {
	c := s.front.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.answered {
		if hd.interim() {
			s.interims++
			return // interim answers are not passed on
		}
		s.answered = true
		if end {
			s.resp.status = hd.Get("grpc-status")
		} else {
			s.askSuffix()
			s.askReader()
		}
		c.open(&s.front, hd, end, t)
		return
	}
	s.resp.status = hd.Get("grpc-status")
	c.finish(&s.front, &tail{trailer: hd}, t)
}

// response takes a piece of the answer's body.
func (s *Stream) response(sg segment, t *turn) {
	if !s.answered { // RFC 9113 section 8.1
		sg.drop()
		s.faulted(s.back, &StreamError{BackendSide, s.back.id, http2.ErrCodeProtocol, "DATA before HEADERS"}, t)
		return
	}
	end := s.handOver(&sg, t)
	s.respond(sg, t)
	if end != nil {
		s.handedOver(end, t)
	}
}

// respond sends a piece of the answer's body on.
func (s *Stream) respond(sg segment, t *turn) {
	if s.suffix != nil {
		s.amend(sg, t)
		return
	}
	if s.call != nil {
		longest := s.follow.next(sg.body)
		if most := s.server.limits.MaxMessage; most > 0 && longest > uint64(most) {
			sg.drop()
			s.back.conn.faultHalf(s.back, http2.ErrCodeCancel, t)
			s.broken(ErrMessageTooLong, t)
			return
		}
	}
	c := s.front.conn
	c.mu.Lock()
	s.resp.out += uint64(len(sg.body))
	c.deliver(&s.front, sg, t)
	c.mu.Unlock()
}

// backendReset passes the backend's RST_STREAM on, behind what came before it.
func (s *Stream) backendReset(h *half, code http2.ErrCode, t *turn) {
	if code == http2.ErrCodeRefusedStream {
		if !s.sendAgain(t) {
			s.broken(ErrGoAway, t)
		}
		return
	}
	c := s.front.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &s.front
	switch {
	case f.sentEnd && !f.over && h.recvEnd:
		c.resetHalf(f, uint32(code), t)
	case f.tail != nil:
		f.tail.also, f.tail.code = true, uint32(code)
	default:
		s.resp.err = &StreamError{BackendSide, h.id, code, "reset by the backend"}
		c.finish(f, &tail{reset: true, code: uint32(code)}, t)
	}
}

// broken ends a stream whose backend failed: the client gets what came, and
// then the words of its call.
func (s *Stream) broken(cause error, t *turn) {
	s.mu.Lock()
	sent := s.phase == opened
	s.mu.Unlock()
	c := s.front.conn
	c.mu.Lock()
	f := &s.front
	if f.over || f.sentEnd || f.tail != nil || !f.queue.empty() && f.queue.list[len(f.queue.list)-1].end {
		c.mu.Unlock()
		return
	}
	b := Break{
		Err: cause, Dialed: !errors.Is(cause, errNotDialed), Sent: sent,
		Headers: s.answered, Data: s.resp.out > 0, MidMessage: s.follow.midMessage(),
	}
	s.resp.err = cause
	c.mu.Unlock()
	r := &Reply{Reset: uint32(http2.ErrCodeInternal)}
	if s.call != nil {
		if said := s.call.Broken(b); said != nil {
			r = said
		}
	}
	s.reply(r, t, false)
}

// reply gives the client an answer of our own. With now, what is still queued
// for it is dropped.
func (s *Stream) reply(r *Reply, t *turn, now bool) {
	c, h := s.front.conn, &s.front
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.over || h.sentEnd || h.tail != nil && !now {
		return
	}
	if now {
		h.queue.clear()
		h.tail = nil
	}
	if r == nil {
		r = &Reply{Reset: uint32(http2.ErrCodeInternal)}
	}
	for i := range r.Trailer {
		if r.Trailer[i].Name == "grpc-status" {
			s.resp.status = r.Trailer[i].Value
		}
	}
	// The client may still be sending: it is told to stop without blame,
	// RFC 9113 section 8.1.
	tl := &tail{also: !h.recvEnd, code: uint32(http2.ErrCodeNo)}
	switch {
	case r.Reset != 0:
		tl = &tail{reset: true, code: r.Reset}
	case !h.opened:
		s.openReply(r, tl, t)
	case len(r.Trailer) > 0:
		tl.trailer = &Header{Fields: r.Trailer}
	}
	c.finish(h, tl, t)
	if h.sentEnd && !h.over && tl.also {
		c.resetHalf(h, tl.code, t)
	}
}

// openReply sends the beginning of an answer of our own, or all of it.
func (s *Stream) openReply(r *Reply, tl *tail, t *turn) {
	c, h := s.front.conn, &s.front
	fields := make([]hpack.HeaderField, 0, 1+len(r.Header)+len(r.Trailer))
	fields = append(fields, hpack.HeaderField{Name: ":status", Value: r.Status})
	fields = append(fields, r.Header...)
	if len(r.Body) == 0 {
		c.open(h, &Header{Fields: append(fields, r.Trailer...)}, true, t)
		return
	}
	c.open(h, &Header{Fields: fields}, false, t)
	c.deliver(h, segment{body: r.Body, end: len(r.Trailer) == 0}, t)
	if len(r.Trailer) > 0 {
		tl.trailer = &Header{Fields: r.Trailer}
	}
}

// faultHalf resets one side for a fault of its peer.
func (c *conn) faultHalf(h *half, code http2.ErrCode, t *turn) {
	c.mu.Lock()
	c.resetHalf(h, uint32(code), t)
	c.mu.Unlock()
}

// faulted ends a stream for a fault in a frame of h's connection.
func (s *Stream) faulted(h *half, e *StreamError, t *turn) {
	h.conn.faultHalf(h, e.Code, t)
	if h != &s.front {
		s.broken(e, t)
	}
}

// lost ends h with its connection.
func (s *Stream) lost(h *half, cause error, t *turn) {
	c := h.conn
	c.mu.Lock()
	complete := h.recvEnd
	if !h.over { // else how it ended is settled, and may be read by others
		h.reset, h.byPeer = true, true
		c.remove(h, t)
	}
	c.mu.Unlock()
	if h != &s.front && h == s.back && !complete {
		s.broken(errors.Join(ErrLost, cause), t)
	}
}

// sideOver is called once for each half that is over, with no lock held.
func (s *Stream) sideOver(h *half, t *turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h == &s.front {
		s.frontGone(t)
	} else {
		s.backend.release(h.conn, t)
		if h == s.back {
			s.backOver = true
			s.askNoMore(t)
		}
	}
	if s.frontOver && (s.backOver || s.back.conn == nil) && !s.told {
		s.told = true
		t.done = append(t.done, s)
	}
}

// askNoMore tells a client that still sends, to a backend which has answered and
// gone, to stop without blame (RFC 9113 section 8.1). s.mu is held.
func (s *Stream) askNoMore(t *turn) {
	c, h := s.front.conn, &s.front
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case h.over || h.recvEnd:
	case h.sentEnd:
		c.resetHalf(h, uint32(http2.ErrCodeNo), t)
	case h.tail != nil && !h.tail.reset && !h.tail.also:
		h.tail.also, h.tail.code = true, uint32(http2.ErrCodeNo)
	}
}

// frontGone ends what a client's side that is over leaves behind. Where both
// peers have ended in order, what the client sent last may still be on its way to
// the backend, and goes on. s.mu is held.
func (s *Stream) frontGone(t *turn) {
	s.frontOver = true
	if s.gone != nil {
		close(s.gone)
	}
	s.server.streamGone(s)
	c := s.back.conn
	if c == nil {
		if s.phase == waiting {
			s.backend.forget(s)
		}
		s.phase = finished
		s.raw.clear()
		s.back.queue.clear()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.front.reset || !s.back.recvEnd {
		s.phase = finished
		s.raw.clear()
		c.resetHalf(s.back, uint32(http2.ErrCodeCancel), t)
	}
}

// tellDone tells the call that the stream is over.
func (s *Stream) tellDone() {
	c := s.front.conn
	s.mu.Lock()
	c.mu.Lock()
	call := s.call
	st := Stats{In: s.in, Out: s.resp.out, Status: s.resp.status, Err: s.resp.err, Reset: s.front.reset, Client: s.front.byPeer}
	c.mu.Unlock()
	s.weighNoMore()
	s.mu.Unlock()
	if call != nil {
		call.Done(st)
	}
}
