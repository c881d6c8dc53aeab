package backend

import (
	"bytes"
	"fmt"
	"net"
	"sync"

	"golang.org/x/net/http2/hpack"

	"github.com/sconce-dev/sconce/bench/payload"
	"github.com/sconce-dev/sconce/bench/wire"
)

// connWindow is the window of a whole connection in bytes: so large that only
// streams are ever held back.
const connWindow = 1 << 30

// conn is one connection.
type conn struct {
	server *Server
	nc     net.Conn

	// The reader's.
	in       *wire.Reader
	dec      *hpack.Decoder
	fields   request // of the header block that is being decoded
	received int     // bytes of DATA since the connection's window was last refilled
	unary    []byte  // the last unary answer
	unaryFor string  // and the session that it is for

	// writing is held while bytes go to the socket; take it before mu.
	writing sync.Mutex

	// Under mu.
	mu      sync.Mutex
	wake    *sync.Cond // the writer waits here
	enc     *hpack.Encoder
	block   bytes.Buffer // what enc wrote
	control []byte       // frames that need no credit, in order
	spare   []byte       // control's other buffer
	streams map[uint32]*stream
	ready   []*stream // that have bytes and credit of their own, in turn
	window  int64     // the connection's, for sending; below zero is possible
	initial int64     // window of a new stream, for sending
	closed  bool
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{
		server:  s,
		nc:      nc,
		in:      wire.NewReader(nc, s.cfg.ReadBuffer),
		streams: map[uint32]*stream{},
		window:  wire.DefaultWindow,
		initial: wire.DefaultWindow,
	}
	c.wake = sync.NewCond(&c.mu)
	c.enc = hpack.NewEncoder(&c.block)
	c.dec = hpack.NewDecoder(4096, c.field)
	return c
}

// run serves the connection until it ends, and says how: io.EOF is well.
func (c *conn) run() error {
	preface, err := c.in.Take(len(wire.Preface))
	if err != nil {
		return err
	}
	if string(preface) != wire.Preface {
		return fmt.Errorf("no HTTP/2 preface: %w", wire.ErrFrame)
	}
	c.control = wire.AppendSettings(c.control,
		wire.Setting{ID: wire.InitialWindowSize, Value: uint32(c.server.cfg.Window)},
		wire.Setting{ID: wire.MaxConcurrentStreams, Value: uint32(c.server.cfg.Streams)})
	c.control = wire.AppendWindowUpdate(c.control, 0, connWindow-wire.DefaultWindow)

	var writer sync.WaitGroup
	writer.Go(c.write)
	err = c.read()
	c.close()
	writer.Wait()
	return err
}

func (c *conn) close() {
	closed(c.nc)
	c.mu.Lock()
	c.closed = true
	c.wake.Signal()
	c.mu.Unlock()
}

// read takes frames until the connection ends. Small answers are written when
// no further frame is in the buffer.
func (c *conn) read() error {
	for {
		if !c.in.Buffered() {
			if err := c.flush(); err != nil {
				return err
			}
		}
		h, p, err := c.in.Next()
		if err != nil {
			return err
		}
		if err := c.frame(h, p); err != nil {
			return fmt.Errorf("frame type %d on stream %d: %w", h.Type, h.Stream, err)
		}
	}
}

// flush writes the control frames, or leaves them to the writer if that is busy:
// the reader must go on reading credit while a peer does not take bytes.
func (c *conn) flush() error {
	if !c.writing.TryLock() {
		c.mu.Lock()
		c.wake.Signal()
		c.mu.Unlock()
		return nil
	}
	defer c.writing.Unlock()
	c.mu.Lock()
	out := c.takeControl()
	c.mu.Unlock()
	if len(out) == 0 {
		return nil
	}
	_, err := c.nc.Write(out)
	return err
}

// takeControl needs both locks: the buffer is good until writing is unlocked.
func (c *conn) takeControl() []byte {
	out := c.control
	c.control, c.spare = c.spare[:0], out
	return out
}

func (c *conn) frame(h wire.Header, p []byte) error {
	switch h.Type {
	case wire.Data:
		return c.data(h, p)
	case wire.Headers:
		return c.headers(h, p)
	case wire.WindowUpdate:
		return c.credit(h.Stream, p)
	case wire.ResetStream:
		c.drop(h.Stream)
	case wire.SettingsType:
		return c.settings(h, p)
	case wire.Ping:
		if h.Flags&wire.Ack == 0 {
			c.mu.Lock()
			c.control = wire.AppendPingAck(c.control, p)
			c.mu.Unlock()
		}
	case wire.Continuation:
		return wire.ErrContinuation
	}
	return nil
}

func (c *conn) settings(h wire.Header, p []byte) error {
	if h.Flags&wire.Ack != 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control = wire.AppendSettingsAck(c.control)
	return wire.ParseSettings(p, func(s wire.Setting) {
		switch s.ID {
		case wire.HeaderTableSize:
			c.enc.SetMaxDynamicTableSizeLimit(s.Value)
		case wire.InitialWindowSize:
			delta := int64(s.Value) - c.initial
			c.initial = int64(s.Value)
			for _, st := range c.streams {
				c.grant(st, delta)
			}
		}
	})
}

// credit takes a WINDOW_UPDATE.
func (c *conn) credit(id uint32, p []byte) error {
	n, err := wire.ParseUint31(p)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == 0 {
		c.window += int64(n)
		c.wake.Signal()
	} else if st := c.streams[id]; st != nil {
		c.grant(st, int64(n))
	}
	return nil
}

func (c *conn) drop(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.streams[id]; st != nil {
		st.gone = true
		delete(c.streams, id)
	}
}

// unaryAnswer returns the Config answer for the session, made once.
func (c *conn) unaryAnswer(session string) []byte {
	if c.unary == nil || c.unaryFor != session {
		c.unary, c.unaryFor = payload.UnaryResponse(session), session
	}
	return c.unary
}
