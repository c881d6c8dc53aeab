package relay

import (
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/http2"
)

// backendConn is the role of a connection that we made.
type backendConn struct {
	*conn
	backend *Backend

	settled chan struct{} // closed when the connection is up, or over
	once    sync.Once     // closes it

	// Guarded by backend.mu.
	up      bool        // the backend's SETTINGS came
	leaving bool        // no new streams: GOAWAY came, or the ids are used up
	live    int         // streams on it, or about to be
	room    int         // how many it takes
	owner   *clientConn // whose streams are on it, if they are all one client's; nil without any
}

func newBackendConn(b *Backend, nc net.Conn) *backendConn {
	w := newWire(nc)
	if tw, ok := w.(interface{ usePool(*buffers) }); ok {
		tw.usePool(&b.pool)
	}
	bc := &backendConn{conn: newConn(BackendSide, w, &b.pool, &b.limits), backend: b, settled: make(chan struct{})}
	bc.role = bc
	bc.nextID = 1
	bc.greet(preface,
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(b.limits.StreamWindow)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(b.limits.HeaderBytes)},
	)
	return bc
}

// diedYoung: a connection that ends this soon counts as a failure to connect, so
// that the next attempt comes after a pause.
const diedYoung = time.Second

// serve runs the connection and makes room for another when it is over.
func (c *backendConn) serve() {
	b := c.backend
	defer b.tasks.Done()
	b.watch.add(c.conn)
	err := c.run()
	b.watch.remove(c.conn)
	b.mu.Lock()
	for i, other := range b.conns {
		if other == c {
			b.conns = append(b.conns[:i:i], b.conns[i+1:]...)
			break
		}
	}
	if time.Since(c.born) < diedYoung {
		b.failing, b.cause, b.failed = true, err, time.Now()
	}
	left, closed := len(b.waiting), b.closed
	b.mu.Unlock()
	c.once.Do(func() { close(c.settled) })
	if !closed {
		b.cfg.Logger.Info("backend connection ended", zap.String("backend", b.cfg.Name), zap.Error(err))
	}
	if left > 0 {
		b.serveWaiting(&c.turn)
		c.turn.settle()
	}
}

func (c *backendConn) ready() {
	c.mu.Lock()
	room := int(min(c.peer.streams, 1<<20))
	c.mu.Unlock()
	b := c.backend
	b.mu.Lock()
	c.up, c.room = true, room
	b.mu.Unlock()
	c.once.Do(func() { close(c.settled) })
	b.serveWaiting(&c.turn)
}

func (c *backendConn) pong([8]byte) {}

func (c *backendConn) idle(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return id%2 == 0 || id >= c.nextID
}

func (c *backendConn) headers(hd *Header, id uint32, end, tooLarge bool) error {
	c.mu.Lock()
	h := c.streams[id]
	was := h != nil && h.recvEnd
	if h != nil && end {
		c.ended(h, &c.turn)
	}
	if h == nil {
		c.lateBlocks--
	}
	late := c.lateBlocks
	c.mu.Unlock()
	switch {
	case h != nil:
	case c.idle(id):
		return c.fault(http2.ErrCodeProtocol, "HEADERS on an idle stream")
	case late < 0:
		return c.fault(http2.ErrCodeStreamClosed, "more HEADERS on streams that are over than may have been on their way")
	default:
		return nil // it was on its way when we reset the stream
	}
	s := h.stream
	switch {
	case was:
		return &StreamError{BackendSide, id, http2.ErrCodeStreamClosed, "HEADERS after END_STREAM"}
	case tooLarge || hd.fault != "" || s.answered && !end || !s.answered && end && hd.interim():
		s.faulted(h, &StreamError{BackendSide, id, http2.ErrCodeProtocol, "malformed headers"}, &c.turn)
		return nil
	case !s.answered && s.interims == mostInterims && hd.interim():
		s.faulted(h, &StreamError{BackendSide, id, http2.ErrCodeEnhanceYourCalm, "too many interim answers"}, &c.turn)
		return nil
	}
	s.responseHeaders(hd, end, &c.turn)
	return nil
}

// mostInterims is how many interim answers (1xx) a stream may have, and mostBlocks how
// many header blocks: those, headers and trailers.
const (
	mostInterims = 8
	mostBlocks   = mostInterims + 2
)

func (c *backendConn) rst(id uint32, code http2.ErrCode) error {
	c.mu.Lock()
	h := c.streams[id]
	if h != nil {
		h.reset, h.byPeer = true, true
		c.remove(h, &c.turn)
	}
	c.mu.Unlock()
	if h != nil {
		h.stream.backendReset(h, code, &c.turn)
	}
	return nil
}

// goAway: the streams above last were not looked at (RFC 9113 section 6.8) and
// go to another connection; the others go on here.
func (c *backendConn) goAway(last uint32, code http2.ErrCode) error {
	b := c.backend
	b.mu.Lock()
	c.leaving = true
	spent := c.live == 0
	if len(b.waiting) > 0 { // there may be another connection now
		c.turn.slots = append(c.turn.slots, b)
	}
	b.mu.Unlock()
	c.mu.Lock()
	c.goneAway = true
	var refused []*half
	for id, h := range c.streams {
		if id > last {
			h.reset, h.byPeer = true, true
			refused = append(refused, h)
		}
	}
	for _, h := range refused {
		c.remove(h, &c.turn)
	}
	c.mu.Unlock()
	for _, h := range refused {
		h.stream.backendReset(h, http2.ErrCodeRefusedStream, &c.turn)
	}
	if spent {
		return &ConnectionError{BackendSide, http2.ErrCodeNo, "the backend goes away: " + code.String()}
	}
	return nil
}
