package relay

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// Handover is what a Call may be besides: while the server drains it may end its
// answer early, between two messages, so that the client takes the rest up elsewhere.
type Handover interface {
	// HandOver is asked once, between two messages of the answer and not before the
	// client was told to open no more streams here. nil = the answer goes on to its
	// own end. Else next is given the answer's bytes from there on, in order; with
	// an end, the answer stops behind the first n bytes of p, which must be the end
	// of a message, and the rest never reaches the client. Neither may block or
	// keep p.
	HandOver() (next func(p []byte) (n int, end *Reply))
}

// handOver has the call look at a piece of the answer, if the stream is to be handed
// over. With an end, sg is what still goes to the client before it. The backend's
// reader calls it.
func (s *Stream) handOver(sg *segment, t *turn) (end *Reply) {
	if s.stays || !s.server.handing.Load() || sg.end || len(sg.body) == 0 || !s.client().final.Load() {
		return nil
	}
	n := 0
	if s.hand == nil {
		var between bool
		if n, between = s.follow.ends(sg.body); !between || !s.mayHandOver() {
			return nil
		}
	}
	k, end := s.hand(sg.body[n:])
	if end == nil {
		return nil
	}
	if n += k; n < len(sg.body) {
		first := sg.split(n)
		sg.discard(len(sg.body), t)
		*sg = first
	}
	return end
}

// mayHandOver asks the call.
func (s *Stream) mayHandOver() bool {
	if h, ok := s.call.(Handover); ok {
		s.hand = h.HandOver()
	}
	s.stays = s.hand == nil
	return !s.stays
}

// handedOver ends the stream: the backend is told that nobody listens, the client
// reads what came and then end.
func (s *Stream) handedOver(end *Reply, t *turn) {
	s.stays = true
	s.back.conn.faultHalf(s.back, http2.ErrCodeCancel, t)
	s.reply(end, t, false)
}

// ends returns how many bytes of p belong to the message that is under way; between
// is false if it goes on behind them.
func (f responseFollow) ends(p []byte) (n int, between bool) {
	for f.midMessage() && n < len(p) {
		if f.left > 0 {
			k := int(min(f.left, uint64(len(p)-n))) //nolint:gosec // at most len(p)
			f.left -= uint64(k)                     //nolint:gosec // not negative
			n += k
			continue
		}
		k := copy(f.prefix[f.got:], p[n:])
		f.got += k
		n += k
		if f.got == len(f.prefix) {
			f.got, f.left = 0, uint64(binary.BigEndian.Uint32(f.prefix[1:]))
		}
	}
	return n, !f.midMessage()
}
