package relay

import (
	"net"

	"golang.org/x/net/http2/hpack"
)

// Router decides the fate of each stream. Route is called once for each stream
// that a client opens, by the goroutine that reads its connection, so it must
// not block: it answers at once with Stream.Forward or Stream.Refuse, or keeps
// the stream and answers later from another goroutine. Until then the bytes of
// the stream's body stay parked, bounded by the stream's window.
type Router interface {
	Route(s *Stream)
}

// TooLarge is what a Router may have besides: it words the answer to a request
// whose headers are past Limits.HeaderBytes, which Route never sees. h has the
// fields that came before that, unchecked. It is called like Route. Without it,
// and for nil, the answer is a bare 431.
type TooLarge interface {
	TooLarge(h *Header) *Reply
}

// Header is one decoded header block. It is immutable, and streams of one
// connection whose blocks were the same bytes share one Header, so a router
// may hang what it worked out for it on Memo.
type Header struct {
	Fields []hpack.HeaderField

	// Memo belongs to the Router: what it keeps for this very header block.
	// It is read and written by the connection's reader goroutine alone, that
	// is, inside Route.
	Memo any

	kind   blockKind // what the checks below were made for
	fault  string    // why this block is malformed, or ""
	length int64     // content-length, or -1
}

// Get returns the value of the first field of that name (lower case), or "".
func (h *Header) Get(name string) string {
	for i := range h.Fields {
		if h.Fields[i].Name == name {
			return h.Fields[i].Value
		}
	}
	return ""
}

// Values returns every value of that name, in order.
func (h *Header) Values(name string) []string {
	var vs []string
	for i := range h.Fields {
		if h.Fields[i].Name == name {
			vs = append(vs, h.Fields[i].Value)
		}
	}
	return vs
}

// Peer says who is at the other end of a client connection.
type Peer struct {
	Addr net.Addr
	TLS  bool
}

// Call is the router's side of one forwarded stream: it follows what the client
// sends, words what the client reads when the backend fails, and hears the end.
// Edit is never called by two goroutines at once. No method may block.
type Call interface {
	// Edit is given the next bytes p of the request body, in order; end says
	// that the client's side ends with them (p may then be empty). Edit may
	// change bytes of p in place and says through e which of them go on and what is
	// put between. It must account for every byte of p before returning Pass
	// or Wait; with Hold the bytes it did not account for are kept and given
	// to it again after Stream.Resume. The backend sees no frame of the stream before
	// Edit returned Pass for the first time.
	Edit(p []byte, end bool, e *Edits) Verdict

	// Broken words what the client reads when the backend side failed before
	// the stream was complete.
	Broken(b Break) *Reply

	// Done is called once, when the stream is over for both sides.
	Done(st Stats)
}

// Verdict is what Call.Edit decides.
type Verdict uint8

const (
	// Pass lets everything accounted for so far go on to the backend.
	Pass Verdict = iota
	// Wait keeps everything accounted for so far until a later Pass: more
	// bytes are needed to decide. What can be kept is bounded by Limits.Held; the
	// stream of a client that fills it is reset with ENHANCE_YOUR_CALM.
	Wait
	// Hold stops: the rest of p is kept, and Edit is called again after
	// Stream.Resume. (What was accounted for is sent on only if an
	// earlier or later call returns Pass.)
	Hold
	// Cut ends the stream: the backend's side is reset before its message is
	// complete, and the client reads Edits.Reply.
	Cut
)

// Edits collects what one call of Edit does to the bytes it was given.
type Edits struct {
	// Reply is what the client reads after Cut.
	Reply *Reply

	pieces []piece
	used   int // bytes of p accounted for
}

type piece struct {
	n      int    // that many bytes of p go on,
	insert []byte // or else these bytes are put in
}

// Keep lets the next n bytes of p go on.
func (e *Edits) Keep(n int) {
	if n == 0 {
		return
	}
	e.used += n
	if k := len(e.pieces); k > 0 && e.pieces[k-1].insert == nil {
		e.pieces[k-1].n += n
		return
	}
	e.pieces = append(e.pieces, piece{n: n})
}

// Insert puts b at this place. b is kept until it is written and must not change.
func (e *Edits) Insert(b []byte) {
	if len(b) > 0 {
		e.pieces = append(e.pieces, piece{insert: b})
	}
}

// Used returns how many bytes of p are accounted for.
func (e *Edits) Used() int { return e.used }

// Break says how far a stream had come when its backend failed.
type Break struct {
	// Err is the cause, for the log.
	Err error
	// Dialed: a connection to the backend stood when the stream was to go on it.
	Dialed bool
	// Sent: at least one frame of the stream was handed to the backend's
	// connection, so the backend may have acted.
	Sent bool
	// Headers and Data: the client was sent response headers, response data.
	Headers, Data bool
	// MidMessage: the last gRPC message sent to the client is incomplete.
	MidMessage bool
}

// Stats is what a finished stream was.
type Stats struct {
	// In and Out are body bytes from the client and to the client.
	In, Out uint64
	// Status is the grpc-status that the client read, or "" if none was sent
	// (a reset, or not gRPC).
	Status string
	// Reset says that the stream ended by RST_STREAM or with its connection.
	Reset bool
	// Client: the client ended it early (reset, or its connection went).
	Client bool
	// Err is the backend's failure, if one ended the stream.
	Err error
}

// Reply is an answer that the relay itself gives. After response headers were
// sent, only Trailer goes out.
type Reply struct {
	// Status is the HTTP status, "200" for gRPC.
	Status string
	// Header are further response header fields (content-type and the like).
	// They are not used once response headers were sent.
	Header []hpack.HeaderField
	// Body may be nil.
	Body []byte
	// Trailer fields end the stream. Without a Body and with headers not yet
	// sent, they join the one header block ("trailers-only" in gRPC).
	Trailer []hpack.HeaderField
	// Reset, if not zero, ends the stream with RST_STREAM of this code in place
	// of everything above.
	Reset uint32
}
