package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/sconce-dev/sconce/bench/wire"
)

// connWindow is the window of a whole connection in bytes: so large that only
// streams are ever held back.
const connWindow = 1 << 30

var (
	// ErrGoAway says that the proxy ended the connection.
	ErrGoAway = errors.New("the proxy sent GOAWAY")
	// ErrReset says that the proxy ended a stream without an answer.
	ErrReset = errors.New("the proxy reset the stream")
	// ErrStatus says that a call failed with a status.
	ErrStatus = errors.New("the call failed")
	// ErrShort says that a call succeeded with bytes missing.
	ErrShort = errors.New("the answer is incomplete although it ended with OK")
)

// Conn is one client connection. It belongs to one goroutine, but for write.
type Conn struct {
	target Target
	nc     net.Conn
	in     *wire.Reader
	dec    *hpack.Decoder
	enc    *hpack.Encoder
	block  bytes.Buffer // what enc wrote

	out      []byte // frames to be written before the next wait
	streams  map[uint32]*stream
	next     uint32 // id of the next stream
	fields   answer // of the header block that is being decoded
	received int    // bytes of DATA since the connection's window was last refilled
	window   int64  // the connection's, for sending
	initial  int64  // window of a new stream, for sending
	settled  bool   // the proxy's settings have come

	writing sync.Mutex // held for each write to nc
}

// dialConn opens a connection and exchanges settings.
func dialConn(ctx context.Context, t Target) (*Conn, error) {
	t = t.withDefaults()
	nc, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		target:  t,
		nc:      nc,
		in:      wire.NewReader(nc, t.ReadBuffer),
		streams: map[uint32]*stream{},
		next:    1,
		window:  wire.DefaultWindow,
		initial: wire.DefaultWindow,
	}
	c.enc = hpack.NewEncoder(&c.block)
	c.dec = hpack.NewDecoder(4096, c.field)
	c.out = append(c.out, wire.Preface...)
	c.out = wire.AppendSettings(c.out, wire.Setting{ID: wire.InitialWindowSize, Value: uint32(t.Window)})
	c.out = wire.AppendWindowUpdate(c.out, 0, connWindow-wire.DefaultWindow)
	if err := c.until(func() bool { return c.settled }); err != nil {
		c.Close()
		return nil, fmt.Errorf("settings: %w", err)
	}
	return c, nil
}

// Close ends the connection at once.
func (c *Conn) Close() { _ = c.nc.Close() } // there is nobody to tell

// until takes frames until done says so.
func (c *Conn) until(done func() bool) error {
	if err := c.nc.SetDeadline(time.Now().Add(c.target.Timeout)); err != nil {
		return err
	}
	for !done() {
		if err := c.step(); err != nil {
			return err
		}
	}
	return c.flush()
}

// step writes what is to be written, if it would have to wait, and takes one frame.
func (c *Conn) step() error {
	if !c.in.Buffered() {
		if err := c.flush(); err != nil {
			return err
		}
	}
	h, p, err := c.in.Next()
	if err != nil {
		return fmt.Errorf("read from the proxy: %w", err)
	}
	return c.frame(h, p)
}

func (c *Conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	err := c.write(c.out)
	c.out = c.out[:0]
	return err
}

// write may be called by any goroutine, with whole frames.
func (c *Conn) write(frames []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if _, err := c.nc.Write(frames); err != nil {
		return fmt.Errorf("write to the proxy: %w", err)
	}
	return nil
}

func (c *Conn) frame(h wire.Header, p []byte) error {
	switch h.Type {
	case wire.Data:
		return c.data(h, p)
	case wire.Headers:
		return c.headers(h, p)
	case wire.WindowUpdate:
		return c.credit(h.Stream, p)
	case wire.SettingsType:
		return c.settings(h, p)
	case wire.Ping:
		if h.Flags&wire.Ack == 0 {
			c.out = wire.AppendPingAck(c.out, p)
		}
	case wire.ResetStream:
		return c.reset(h.Stream, p)
	case wire.GoAway:
		return fmt.Errorf("%w: %q", ErrGoAway, p)
	case wire.Continuation:
		return wire.ErrContinuation
	}
	return nil
}

func (c *Conn) settings(h wire.Header, p []byte) error {
	if h.Flags&wire.Ack != 0 {
		return nil
	}
	c.settled = true
	c.out = wire.AppendSettingsAck(c.out)
	return wire.ParseSettings(p, func(s wire.Setting) {
		switch s.ID {
		case wire.HeaderTableSize:
			c.enc.SetMaxDynamicTableSizeLimit(s.Value)
		case wire.InitialWindowSize:
			for _, st := range c.streams {
				st.window += int64(s.Value) - c.initial
			}
			c.initial = int64(s.Value)
		}
	})
}

// credit takes a WINDOW_UPDATE.
func (c *Conn) credit(id uint32, p []byte) error {
	n, err := wire.ParseUint31(p)
	if err != nil {
		return err
	}
	if id == 0 {
		c.window += int64(n)
	} else if st := c.streams[id]; st != nil {
		st.window += int64(n)
	}
	return nil
}

// reset takes a RST_STREAM. A stream that is not open here any more may get
// one: a proxy that answered need not wait for the rest of a request.
func (c *Conn) reset(id uint32, p []byte) error {
	if c.streams[id] == nil {
		return nil
	}
	code, err := wire.ParseUint31(p)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w with code %d", ErrReset, code)
}
