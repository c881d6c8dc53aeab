package relay

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// connWindow is the flow-control window of a whole connection. It is given back
// on receipt, so one stalled stream never holds up the others; what a stream
// may park is bounded by its own window.
const connWindow = 16 << 20

// conn is one HTTP/2 connection, to a client or to a backend. What differs
// between the two is behind role.
type conn struct {
	side Side
	lim  *Limits
	wire wire
	pool *buffers
	role role
	born time.Time

	// Of the reader goroutine.

	in         *chunk // what is being read into; nil while nothing is there
	start, end int    // of the bytes in it that were read and not yet parsed
	kind       uint8  // the size of the next chunk
	lastStream uint32 // whose DATA is in the chunk
	mixed      bool   // DATA of several streams is in the chunk
	greeted    bool   // the peer's preface and SETTINGS came
	blocks     *blockDecoder
	part       blockPart
	bud        budgets
	turn       turn
	turnedAway int // streams that no engine had at once, since nothing was left to read or the reader paused

	untidy      atomic.Bool   // it keeps what only a busy connection needs: see tidy
	heard       atomic.Int64  // when bytes last came, in ticks
	alive       atomic.Bool   // the peer's SETTINGS came
	pinged      atomic.Int64  // when our unanswered ping left, in ticks, or 0
	asked       atomic.Int32  // pings since the peer's last DATA or HEADERS
	fairUpdates atomic.Uint64 // WINDOW_UPDATEs that answer our DATA: two for a frame

	flying  batch          // of whoever set writing
	writers sync.WaitGroup // the writer goroutine; Add with mu held and not dead

	mu sync.Mutex
	// Guarded by mu: everything below.

	writing    bool
	written    chan struct{} // closed when writing ends; nil unless goAwayNow waits
	dead       bool
	arrays     *arrays // of out and flying, while there is anything in them
	out        []item  // committed, in the order of the wire
	ctl        []byte  // frames that may overtake out: acknowledgements, window updates
	uncovered  int     // bytes in out that no window covers, with what their items cost
	arena      *chunk  // small frames stand here
	arenaAt    int
	enc        *blockEncoder
	streams    map[uint32]*half
	gone       resetRing // streams that we reset a short while ago
	sendWindow int64
	recvWindow int64
	late       int64 // what a backend may have sent on streams that are over, before it knew:
	lateBlocks int64 // bytes of DATA, and header blocks
	peer       peerSettings
	blocked    []*half // have body and window, but the connection's window is shut
	nextID     uint32  // of the next stream that we open, on a backend's connection
	fairPings  int     // DATA frames of ours that no ping has answered yet: see pingFrame
	goneAway   bool    // GOAWAY came: no more streams
}

// role is what a client's connection and a backend's do differently. All but
// lost are called by the reader goroutine.
type role interface {
	headers(h *Header, id uint32, end, tooLarge bool) error
	rst(id uint32, code http2.ErrCode) error
	goAway(last uint32, code http2.ErrCode) error
	ready()              // the peer's first SETTINGS came
	pong(data [8]byte)   // our ping was answered
	idle(id uint32) bool // no stream of that id was opened yet
}

// item is one committed run of bytes. It holds a reference to chunk.
type item struct {
	b      []byte
	chunk  *chunk
	from   *half // who gets credit when b is written,
	credit int   // and how much
}

// peerSettings are what the other end told us (RFC 9113 section 6.5.2).
type peerSettings struct {
	streams int64 // MAX_CONCURRENT_STREAMS
	window  int64 // INITIAL_WINDOW_SIZE
	frame   int   // MAX_FRAME_SIZE, and never more than ours
}

// blockPart is a header block that is being put together from CONTINUATIONs.
type blockPart struct {
	id     uint32
	end    bool
	frames int
	data   []byte
}

func newConn(side Side, w wire, pool *buffers, lim *Limits) *conn {
	return &conn{
		side: side, lim: lim, wire: w, pool: pool, born: time.Now(),
		blocks:     newBlockDecoder(lim.HeaderBytes),
		streams:    make(map[uint32]*half),
		sendWindow: firstWindow, recvWindow: firstWindow,
		peer: peerSettings{streams: maxStreamID, window: firstWindow, frame: maxFrame},
	}
}

// greet commits our SETTINGS and opens the connection's window.
func (c *conn) greet(first string, set ...http2.Setting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ctl = append(c.ctl, first...)
	c.ctl = appendSettings(c.ctl, set...)
	c.ctl = appendUint32Frame(c.ctl, http2.FrameWindowUpdate, 0, connWindow-firstWindow)
	c.recvWindow = connWindow
}

// run reads until the connection is over and returns why. All its streams are
// ended by then.
func (c *conn) run() error {
	c.turn.touch(c)
	c.turn.settle()
	err := c.wire.read(c)
	if ce, ok := err.(*ConnectionError); ok {
		c.goAwayNow(ce.Code)
		if cc, ok := c.role.(*clientConn); !ok || !cc.tarpit(ce) {
			c.wire.linger()
		}
	}
	c.fail()
	c.loseStreams(err)
	c.releaseRead()
	c.writers.Wait()
	c.wire.close()
	return err
}

// fail marks the connection dead and ends its transport, at which run returns. It
// may be called by anyone, any number of times.
func (c *conn) fail() {
	c.mu.Lock()
	was := c.dead
	c.dead = true
	if !was && !c.writing {
		c.dropOutput()
	}
	c.mu.Unlock()
	if !was {
		c.wire.shut()
	}
}

// loseStreams ends every stream of a dead connection.
func (c *conn) loseStreams(cause error) {
	c.mu.Lock()
	lost := make([]*half, 0, len(c.streams))
	for _, h := range c.streams {
		lost = append(lost, h)
	}
	c.mu.Unlock()
	for _, h := range lost {
		h.stream.lost(h, cause, &c.turn)
		c.turn.settle()
	}
	c.turn.settle()
}

// goAwayNow tells the peer why it is left, and waits a moment for that to be
// written.
func (c *conn) goAwayNow(code http2.ErrCode) {
	c.mu.Lock()
	if !c.dead {
		c.put(appendGoAway(nil, c.lastPeerStream(), code))
	}
	c.mu.Unlock()
	c.turn.touch(c)
	c.turn.settle()
	c.mu.Lock()
	written := make(chan struct{})
	if c.written = written; !c.writing {
		c.quiet()
	}
	c.mu.Unlock()
	late := time.NewTimer(lingerTime)
	defer late.Stop()
	select {
	case <-written:
	case <-late.C:
	}
}

// quiet notes that nobody writes any more. c.mu is held.
func (c *conn) quiet() {
	c.writing = false
	if c.written != nil {
		close(c.written)
		c.written = nil
	}
}

// lastPeerStream is the id for GOAWAY.
func (c *conn) lastPeerStream() uint32 {
	if cc, ok := c.role.(*clientConn); ok {
		return cc.lastID.Load()
	}
	return 0
}

// space implements source.
func (c *conn) space() []byte {
	switch {
	case c.in == nil:
		c.newChunk(0)
	case len(c.in.buf)-c.end < minRead:
		c.newChunk(c.end - c.start)
	}
	return c.in.buf[c.end:]
}

// minRead: a chunk with less room than this is left for a new one.
const minRead = 2 << 10

// newChunk begins a chunk and carries over the part of a frame that is there.
func (c *conn) newChunk(rest int) {
	old, from := c.in, c.start
	if rest > 0 {
		c.kind = max(c.kind, fittingKind(rest+minRead, frameHead+c.frameSize()))
	}
	c.in = c.pool.get(c.kind)
	if rest > 0 {
		copy(c.in.buf, old.buf[from:from+rest])
	}
	old.drop()
	c.start, c.end = 0, rest
	c.mixed = false
}

// frameSize is the length of the frame that has begun, as far as it is known.
func (c *conn) frameSize() int {
	if c.end-c.start < frameHead {
		return 0
	}
	return min(readHead(c.in.buf[c.start:]).size, maxFrame)
}

func fittingKind(sizes ...int) uint8 {
	n := 0
	for _, s := range sizes {
		n = max(n, s)
	}
	for k := range chunkSizes {
		if n <= chunkSizes[k] {
			return uint8(k)
		}
	}
	return uint8(len(chunkSizes) - 1)
}

// filled implements source: it parses what came and settles.
func (c *conn) filled(n int) error {
	if c.end+n == len(c.in.buf) && int(c.kind) < len(chunkSizes)-1 {
		c.kind++ // reads fill the chunk: the next one is larger
	}
	c.end += n
	c.heard.Store(ticks())
	if !c.untidy.Load() {
		c.untidy.Store(true)
	}
	err := c.parse()
	c.turn.settle()
	return err
}

// drained implements source: a chunk is not kept over a wait unless part of a
// frame stands in it or parked bodies do. Should the wait be long, the watch has
// the reader call tidy.
func (c *conn) drained() {
	c.turnedAway = 0
	if c.in == nil || c.end > c.start {
		return
	}
	if c.in.refs.Load() > 1 && c.in.kind > 0 && len(c.in.buf)-c.end >= len(c.in.buf)/4 {
		return // others keep it alive: the room in it is used up first
	}
	if c.kind > 0 && c.end < chunkSizes[c.kind-1]/2 {
		c.kind--
	}
	c.releaseRead()
}

// tidy implements source. On a connection that has gone quiet it moves the part of
// a frame that is there to the smallest chunk which takes the whole frame, and
// forgets what only makes the next call cheaper.
func (c *conn) tidy() {
	c.untidy.Store(false)
	switch rest := c.end - c.start; {
	case c.in == nil:
	case rest > 0:
		c.kind = 0
		c.newChunk(rest)
	default:
		c.releaseRead()
	}
	c.blocks.forget()
	c.turn = turn{}
	if c.part.frames == 0 {
		c.part = blockPart{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.enc != nil {
		c.enc.forget()
	}
}

func (c *conn) releaseRead() {
	c.in.drop()
	c.in = nil
}
