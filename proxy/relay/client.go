package relay

import (
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// clientConn is the role of a connection that a client opened.
type clientConn struct {
	*conn
	server *Server
	remote Peer
	maxAge time.Duration // after which it takes no new streams; 0 = never

	lastID  atomic.Uint32               // the highest stream id that came
	leaving atomic.Bool                 // the first GOAWAY was sent
	final   atomic.Bool                 // the second one was
	closing atomic.Bool                 // no streams are left on it
	last    atomic.Pointer[backendConn] // that carried a stream of this client
}

// drainPing marks the ping between the two GOAWAYs.
var drainPing = [8]byte{'s', 'c', 'o', 'n', 'c', 'e', 0, 1}

func (c *clientConn) ready() {}

func (c *clientConn) idle(id uint32) bool { return id%2 == 0 || id > c.lastID.Load() }

func (c *clientConn) goAway(uint32, http2.ErrCode) error { return nil } // the client will close

// mostTarpitted bounds the connections in the tarpit: they count among those of their
// address, which others may share.
const mostTarpitted = 64

// tarpit keeps a connection that broke the rules for a while, with nothing on it, and
// reads no more; then it says true. Who floods again and again is busy with that: a
// connection that ended at once would be had anew at once, with budgets that are full.
func (c *clientConn) tarpit(cause error) bool {
	defer c.server.tarpitted.Add(-1)
	if c.server.tarpitted.Add(1) > mostTarpitted || c.lim.Tarpit < 0 {
		return false
	}
	c.mu.Lock()
	stays := !c.dead && !c.writing // else it does not even read why it is left
	if stays {
		c.dead = true
		c.dropOutput()
	}
	c.mu.Unlock()
	if !stays {
		return false
	}
	c.loseStreams(cause)
	c.releaseRead()
	time.Sleep(c.lim.Tarpit)
	c.wire.shut()
	return true
}

// headers opens a stream, or takes a stream's trailers.
func (c *clientConn) headers(hd *Header, id uint32, end, tooLarge bool) error {
	c.mu.Lock()
	h := c.streams[id]
	c.mu.Unlock()
	if h != nil {
		return c.trailers(h, hd, end, tooLarge)
	}
	if id%2 == 0 {
		return c.fault(http2.ErrCodeProtocol, "a client's stream with an even id")
	}
	if last := c.lastID.Load(); id <= last {
		c.mu.Lock()
		known := c.gone.has(id)
		c.mu.Unlock()
		if known && end {
			return nil // trailers that were on their way when we reset the stream
		}
		return c.fault(http2.ErrCodeStreamClosed, "HEADERS on a closed stream")
	}
	c.mu.Lock()
	c.lastID.Store(id)
	late := c.final.Load() // left names the last id under the same lock
	c.mu.Unlock()
	if late {
		return &StreamError{ClientSide, id, http2.ErrCodeRefusedStream, "the connection is going away"}
	}
	if hd.fault != "" {
		return &StreamError{ClientSide, id, http2.ErrCodeProtocol, hd.fault}
	}
	return c.openStream(hd, id, end, tooLarge)
}

func (c *clientConn) openStream(hd *Header, id uint32, end, tooLarge bool) error {
	s := &Stream{server: c.server, header: hd, peer: &c.remote, bodyLeft: -1}
	if !tooLarge {
		s.bodyLeft = hd.length
	}
	first := int64(c.lim.StreamWindow)
	s.back0.stream, s.back = s, &s.back0
	s.front = half{stream: s, conn: c.conn, id: id, recvWindow: first, window: first}
	// What streams that were just reset leave behind goes first, so that a backend
	// never sees more of one client's streams at once than it may have.
	c.turn.settleOver()
	c.mu.Lock()
	full := len(c.out) > mostKept
	c.mu.Unlock()
	if full {
		c.turn.settle() // many calls in one read: their answers go out in between
	}
	c.mu.Lock()
	if c.uncovered > pendingFactor*c.lim.PendingControl {
		c.mu.Unlock()
		return c.calm("calls whose answers are not read")
	}
	if len(c.streams) >= c.lim.Streams {
		c.mu.Unlock()
		return &StreamError{ClientSide, id, http2.ErrCodeRefusedStream, "too many streams"}
	}
	s.front.sendWindow = c.peer.window
	c.streams[id] = &s.front
	if end {
		c.ended(&s.front, &c.turn)
	}
	c.mu.Unlock()
	if tooLarge {
		s.reply(c.server.tooLarge(hd), &c.turn, true)
		return nil
	}
	if end && s.bodyLeft > 0 {
		return &StreamError{ClientSide, id, http2.ErrCodeProtocol, "content-length of a request without a body"}
	}
	s.inRoute = true
	c.server.router.Route(s)
	if !s.routed(&c.turn) {
		c.turnedAway++
	}
	if end {
		return s.request(segment{end: true}, &c.turn)
	}
	return nil
}

// trailers end the request; what a client puts into them is not passed on and
// never counts as metadata.
func (c *clientConn) trailers(h *half, hd *Header, end, tooLarge bool) error {
	c.mu.Lock()
	was := h.recvEnd
	if end && !was {
		c.ended(h, &c.turn)
	}
	c.mu.Unlock()
	switch {
	case was:
		return &StreamError{ClientSide, h.id, http2.ErrCodeStreamClosed, "HEADERS after END_STREAM"}
	case !end || hd.fault != "" || tooLarge:
		h.stream.mu.Lock()
		h.stream.abandon(&c.turn)
		h.stream.mu.Unlock()
		return &StreamError{ClientSide, h.id, http2.ErrCodeProtocol, "malformed trailers"}
	}
	return h.stream.request(segment{end: true}, &c.turn)
}

// rst ends a stream at the client's wish. It is charged where no answer had begun:
// opening streams to reset them at once is the attack; leaving an answer before its
// end, as clients do that have read enough, is not.
func (c *clientConn) rst(id uint32, _ http2.ErrCode) error {
	c.mu.Lock()
	h := c.streams[id]
	answered := h != nil && h.opened
	if h != nil {
		h.reset, h.byPeer = true, true
		c.remove(h, &c.turn)
	}
	c.mu.Unlock()
	if !answered && !c.bud.resets.spend(c.lim.Resets) {
		return c.calm("reset streams")
	}
	return nil
}

// grow has a connection leave that is past its age.
func (c *clientConn) grow(now time.Time) {
	if c.maxAge > 0 && now.Sub(c.born) >= c.maxAge {
		c.leave()
	}
}

// leave begins the drain of this connection.
func (c *clientConn) leave() {
	if c.leaving.Swap(true) {
		return
	}
	c.mu.Lock()
	c.put(appendGoAway(nil, maxStreamID, http2.ErrCodeNo))
	c.put(appendPing(nil, false, drainPing[:]))
	c.mu.Unlock()
	c.flushNow()
	time.AfterFunc(drainGrace, c.left)
}

func (c *clientConn) pong(data [8]byte) {
	if data == drainPing && c.leaving.Load() {
		c.left()
	}
}

// left names the last stream that is served. It may be called twice.
func (c *clientConn) left() {
	if c.final.Load() {
		return
	}
	c.mu.Lock()
	if !c.final.Swap(true) {
		c.put(appendGoAway(nil, c.lastID.Load(), http2.ErrCodeNo))
	}
	c.mu.Unlock()
	c.flushNow()
	c.closeWhenEmpty()
}

// closeWhenEmpty closes a leaving connection that has no streams, once all that
// was said on it is written. The client mostly does it first.
func (c *clientConn) closeWhenEmpty() {
	c.mu.Lock()
	empty := len(c.streams) == 0 && c.final.Load()
	c.mu.Unlock()
	if empty && !c.closing.Swap(true) {
		time.AfterFunc(drainGrace, c.closeWhenWritten)
	}
}

func (c *clientConn) closeWhenWritten() {
	c.mu.Lock()
	busy := !c.dead && (c.writing || c.pending())
	if !c.dead && len(c.streams) > 0 { // its HEADERS were read when left named the last id
		c.closing.Store(false)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	if busy {
		time.AfterFunc(drainGrace, c.closeWhenWritten)
		return
	}
	// The client reads to the end and then closes; what it still sends is read
	// meanwhile, or the kernel would throw away what it has not yet fetched.
	c.wire.end()
	time.AfterFunc(lastWords, c.fail)
}

func (c *conn) flushNow() {
	var t turn
	t.touch(c)
	t.settle()
}
