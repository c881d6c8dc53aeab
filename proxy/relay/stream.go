package relay

import (
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// phase is how far the request side of a stream has come.
type phase uint8

const (
	asked    phase = iota // the router has not decided; the body is kept as it came
	followed              // decided; Call.Edit has not yet let anything pass
	waiting               // waits for a connection to the backend
	opened                // on a backend's connection
	finished              // the client's side is over
)

// Stream is one stream between a client and, once the router has said so, a
// backend.
type Stream struct {
	server *Server
	header *Header
	peer   *Peer

	front half  // on the client's connection
	back  *half // on the backend's; its conn is set when phase is opened
	back0 half  // what back points to, unless the stream is sent again

	// mu guards the way of the request. It may be held when a connection's mu
	// is taken, never the other way round.
	mu        sync.Mutex
	phase     phase
	inRoute   bool // Route is running: its decision is carried out when it returns
	held      bool // Call.Edit said Hold
	backend   *Backend
	out       *Header
	call      Call
	raw       segments // what came before it could be followed
	kept      int      // bytes in back.queue before the first Pass
	bodyLeft  int64    // by content-length; -1 without
	in        uint64
	frontOver bool
	backOver  bool
	told      bool // Done was or will be called
	gone      chan struct{}
	again     replay

	gauge  Gauge       // set before gauged
	gauged atomic.Bool // call is a Gauge, and the stream is not over

	resp responseState

	// Of the backend's reader goroutine.
	answered bool   // response headers came
	interims uint8  // interim ones that came before
	suffix   []byte // what the call adds to each message of the answer
	follow   responseFollow
	hand     func(p []byte) (n int, end *Reply) // of Handover; nil = not asked yet
	stays    bool                               // it is not to be handed over, or was
}

// Header is the request's header block, as it came.
func (s *Stream) Header() *Header { return s.header }

// Peer is the client.
func (s *Stream) Peer() *Peer { return s.peer }

// Forward sends the stream to a backend with these header fields. call may be
// nil: the body then passes unseen. It counts once; later decisions are ignored.
func (s *Stream) Forward(b *Backend, h *Header, call Call) {
	s.mu.Lock()
	if s.phase != asked || s.backend != nil {
		s.mu.Unlock()
		if call != nil {
			call.Done(Stats{Reset: true, Client: true})
		}
		return
	}
	s.backend, s.out, s.call = b, h, call
	s.measure(call)
	if s.inRoute {
		s.mu.Unlock()
		return
	}
	t := s.server.turn()
	s.begin(t)
	s.mu.Unlock()
	s.server.settle(t)
}

// Refuse answers the stream without a backend.
func (s *Stream) Refuse(r *Reply) { s.Cut(r) }

// Resume has Call.Edit called again after Hold. It must not be called from
// within Edit.
func (s *Stream) Resume() {
	t := s.server.turn()
	s.mu.Lock()
	if s.held {
		s.held = false
		s.drainRaw(t)
	}
	s.mu.Unlock()
	s.server.settle(t)
}

// Cut ends the stream on both sides at once; the client reads r in place of
// what was still queued for it. It must not be called from within Edit.
func (s *Stream) Cut(r *Reply) {
	t := s.server.turn()
	s.reply(r, t, true)
	s.mu.Lock()
	if s.frontOver { // in order, so its end left the request on its way
		s.abandon(t)
	}
	s.mu.Unlock()
	s.server.settle(t)
}

// Gone is closed when the client's side is over.
func (s *Stream) Gone() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone == nil {
		s.gone = make(chan struct{})
		if s.frontOver {
			close(s.gone)
		}
	}
	return s.gone
}

func (h *half) other() *half {
	if h == &h.stream.front {
		return h.stream.back
	}
	return &h.stream.front
}

// client is the connection that the stream came on.
func (s *Stream) client() *clientConn {
	cc, _ := s.front.conn.role.(*clientConn)
	return cc
}

// routed carries out what Route decided, and says whether that was an engine. The
// client's reader calls it.
func (s *Stream) routed(t *turn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inRoute = false
	if s.backend != nil && s.phase == asked {
		s.begin(t)
	}
	return s.backend != nil && !s.backend.cfg.Own
}

// begin follows the body from its beginning. s.mu is held.
func (s *Stream) begin(t *turn) {
	s.phase = followed
	if s.call == nil {
		s.pass(t)
	}
	s.drainRaw(t)
}

// request takes a piece of the body from the client.
func (s *Stream) request(sg segment, t *turn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == finished {
		sg.drop()
		return nil
	}
	s.in += uint64(len(sg.body))
	if !s.withinLength(&sg) {
		sg.drop()
		s.abandon(t)
		return &StreamError{ClientSide, s.front.id, http2.ErrCodeProtocol, "a body that is not its content-length"}
	}
	if s.phase == asked || s.held {
		s.raw.park(sg, s.front.conn.pool)
		return nil
	}
	s.edit(sg, t)
	return nil
}

// withinLength holds the body against its content-length (RFC 9113 section 8.1.1).
func (s *Stream) withinLength(sg *segment) bool {
	if s.bodyLeft < 0 {
		return true
	}
	s.bodyLeft -= int64(len(sg.body))
	return s.bodyLeft >= 0 && (!sg.end || s.bodyLeft == 0)
}

// drainRaw follows what was kept. s.mu is held.
func (s *Stream) drainRaw(t *turn) {
	for !s.raw.empty() && !s.held && s.phase != finished && s.phase != asked {
		sg := *s.raw.first()
		s.raw.pop()
		s.edit(sg, t)
	}
}

// edit lets the call see a piece of the body and sends on what it passes. s.mu is held.
func (s *Stream) edit(sg segment, t *turn) {
	if s.call == nil {
		s.emit(sg, t)
		return
	}
	e := &t.edits
	e.reset()
	verdict := s.call.Edit(sg.body, sg.end, e)
	if verdict == Cut { // nothing more: what the backend has must stay incomplete
		sg.drop()
		s.reply(e.Reply, t, true)
		s.abandon(t)
		return
	}
	if verdict == Pass {
		s.pass(t)
	}
	rest := s.emitPieces(sg, e, verdict == Hold, (*Stream).emit, t)
	switch verdict {
	case Wait:
		if sg.end || s.phase == followed && s.kept >= s.server.limits.Held {
			s.front.conn.faultHalf(&s.front, http2.ErrCodeEnhanceYourCalm, t)
		}
	case Hold:
		s.held = true
		s.raw.unshift(rest)
	}
}

// abandon ends the way of the request, where the client's side may be over in order
// and so cannot do it. s.mu is held.
func (s *Stream) abandon(t *turn) {
	switch s.phase {
	case waiting:
		s.backend.forget(s)
	case opened:
		s.back.conn.faultHalf(s.back, http2.ErrCodeCancel, t)
	}
	s.phase = finished
	s.raw.clear()
}

// emitPieces turns what Edit said into segments for emit. With hold, what it did not
// account for is returned.
func (s *Stream) emitPieces(sg segment, e *Edits, hold bool, emit func(*Stream, segment, *turn), t *turn) (rest segment) {
	left, end := sg, sg.end
	for i := 0; i < len(e.pieces); i++ {
		p, last := e.pieces[i], func() bool { return i+1 == len(e.pieces) && end && !hold }
		if p.insert != nil {
			left.discard(p.n, t)
			if len(p.insert) > 0 {
				emit(s, segment{body: p.insert, end: last()}, t)
				end = end && !last()
			}
			continue
		}
		next := left.split(p.n)
		if i+1 < len(e.pieces) && e.pieces[i+1].inserts() && next.extend(e.pieces[i+1].insert) {
			i++
		}
		next.end = last()
		end = end && !next.end
		emit(s, next, t)
	}
	if hold {
		return left
	}
	left.discard(len(left.body), t)
	if end {
		emit(s, segment{end: true}, t)
	}
	return segment{}
}

// pass lets everything followed so far go on, now and from now on. s.mu is held.
func (s *Stream) pass(t *turn) {
	if s.phase != followed {
		return
	}
	s.phase = waiting
	s.backend.assign(s, t)
}

// emit sends a piece towards the backend. s.mu is held.
func (s *Stream) emit(sg segment, t *turn) {
	s.again.remember(&sg)
	switch s.phase {
	case opened:
		c := s.back.conn
		c.mu.Lock()
		c.deliver(s.back, sg, t)
		c.mu.Unlock()
	case finished:
		sg.drop()
	default:
		s.kept += sg.size()
		s.back.queue.park(sg, s.front.conn.pool)
	}
}

// openOn opens the stream on a connection where it has a slot. s.mu is held. It
// says false if the connection takes no more streams.
func (s *Stream) openOn(c *conn, t *turn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || c.goneAway || c.nextID > maxStreamID-2 {
		return false
	}
	h := s.back
	h.conn, h.id = c, c.nextID
	h.sendWindow = c.peer.window
	h.window, h.recvWindow = int64(c.lim.StreamWindow), int64(c.lim.StreamWindow)
	c.nextID += 2
	c.streams[h.id] = h
	s.phase = opened
	c.open(h, s.out, false, t)
	c.pump(h, t)
	return true
}
