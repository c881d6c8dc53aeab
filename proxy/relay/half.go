package relay

import "sync/atomic"

// half is one side of a stream: its end on the client's connection or its end
// on the backend's.
type half struct {
	stream *Stream
	conn   *conn // nil for the backend's half until it has a connection
	id     uint32

	// Guarded by conn.mu (by stream.mu while conn is nil).

	sendWindow int64 // what the peer lets us send
	recvWindow int64 // what the peer may still send
	window     int64 // the size of the window that we give the peer
	owed       int64 // credit to be given back, not yet sent
	streak     int64 // bytes written since the receiver last stalled
	told       int64 // of the bytes that are under way, those that the Gauge knows of

	queue segments // body that waits for window, or for a connection
	tail  *tail    // what follows the queue

	opened   bool // our HEADERS were committed
	sentData bool // some of our DATA was committed
	sentEnd  bool // our END_STREAM was committed
	recvEnd  bool // the peer's END_STREAM came
	over     bool // both ends came, or a reset, or the connection is lost
	reset    bool // over by RST_STREAM or with the connection
	byPeer   bool // over, and the peer did it
	blocked  bool // in conn.blocked

	// drained says that the bytes which came in on this half were all
	// written to the other side at some moment since credit was last given: the
	// receiver keeps up.
	drained atomic.Bool
}

// tail ends one direction of a stream after its body.
type tail struct {
	trailer *Header // nil: END_STREAM on an empty DATA frame
	reset   bool    // RST_STREAM in place of an orderly end
	code    uint32
	also    bool // RST_STREAM(code) after the orderly end
}

// segment is a piece of a body on its way. It holds a reference to chunk.
type segment struct {
	chunk  *chunk
	frame  []byte // head and body side by side, as they came; nil if the head may not be reused
	body   []byte
	suffix []byte // bytes that we add behind body
	credit int    // flow-controlled bytes to give back to from when it is written
	from   *half
	end    bool // END_STREAM with it
	mixed  bool // chunk holds frames of several streams
	own    bool // chunk is this segment's alone, with room behind body
}

func (s *segment) size() int { return len(s.body) + len(s.suffix) }

func (s *segment) drop() {
	s.chunk.drop()
	s.chunk = nil
}

// segments is a queue that reuses its array.
type segments struct {
	list []segment
	head int
}

func (q *segments) empty() bool     { return q.head == len(q.list) }
func (q *segments) first() *segment { return &q.list[q.head] }

func (q *segments) push(s segment) {
	if q.head > 16 && q.head*2 > len(q.list) {
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	q.list = append(q.list, s)
}

func (q *segments) pop() {
	q.list[q.head] = segment{}
	q.head++
	if q.head == len(q.list) {
		q.list, q.head = q.list[:0], 0
	}
}

// clear drops everything.
func (q *segments) clear() {
	for ; !q.empty(); q.pop() {
		q.first().drop()
	}
	q.list, q.head = nil, 0
}

// keepSmall copies a segment that is to wait into a buffer of its own size when
// it would otherwise pin a much larger read buffer that it shares with other
// streams. A buffer full of one stream's frames is worth keeping as it is: a download
// whose receiver's window is shut for a moment is then not copied.
func (s *segment) keepSmall(pool *buffers) {
	n := s.size()
	if s.chunk == nil || !s.mixed || n*4 > len(s.chunk.buf) || s.chunk.kind == 0 {
		return
	}
	k := pool.fitting(frameHead + n)
	b := k.buf[frameHead:frameHead]
	b = append(b, s.body...)
	b = append(b, s.suffix...)
	s.chunk.drop()
	s.chunk, s.body, s.suffix, s.frame = k, b, nil, k.buf[:frameHead+n]
}
