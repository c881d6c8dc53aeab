package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Memory is a net.Listener whose connections never leave the process: Dial
// makes one and Accept hands out its other end. Our own servers stand on it, so
// that to the relay they are backends like any other. Its connections are
// buffered, unlike those of net.Pipe: a write waits only while memBuffer bytes
// are unread.
type Memory struct {
	name  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// memBuffer is how many bytes each direction of a connection holds unread.
const memBuffer = 256 << 10

// NewMemory returns a listener that accepts until it is closed. The name is its
// address, for logs.
func NewMemory(name string) *Memory {
	return &Memory{name: name, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Dial makes a connection and waits until it is accepted.
func (m *Memory) Dial(ctx context.Context) (net.Conn, error) {
	up, down := newHalf(), newHalf()
	near := &memConn{in: down, out: up, addr: memAddr(m.name)}
	far := &memConn{in: up, out: down, addr: memAddr(m.name)}
	if err := m.hand(ctx, far); err != nil {
		return nil, err
	}
	return near, nil
}

// hand passes a connection to whoever accepts, without a wire between.
func (m *Memory) hand(ctx context.Context, conn net.Conn) error {
	select {
	case m.conns <- conn:
		return nil
	case <-m.done:
		return &net.OpError{Op: "dial", Net: "memory", Addr: m.Addr(), Err: net.ErrClosed}
	case <-ctx.Done():
		return &net.OpError{Op: "dial", Net: "memory", Addr: m.Addr(), Err: ctx.Err()}
	}
}

// Accept waits for the next Dial. It returns net.ErrClosed after Close.
func (m *Memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, &net.OpError{Op: "accept", Net: "memory", Addr: m.Addr(), Err: net.ErrClosed}
	}
}

// Close ends Accept and Dial. Connections that were accepted live on.
func (m *Memory) Close() error {
	m.once.Do(func() { close(m.done) })
	return nil
}

// Addr returns the listener's name.
func (m *Memory) Addr() net.Addr { return memAddr(m.name) }

type memAddr string

func (memAddr) Network() string  { return "memory" }
func (a memAddr) String() string { return string(a) }

// memConn is one end of a connection.
type memConn struct {
	in, out *half
	addr    memAddr
}

func (c *memConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *memConn) Write(p []byte) (int, error) { return c.out.write(p) }
func (c *memConn) LocalAddr() net.Addr         { return c.addr }
func (c *memConn) RemoteAddr() net.Addr        { return c.addr }

// Close ends both directions: the other end reads what is buffered and then
// io.EOF, and its writes fail.
func (c *memConn) Close() error {
	c.out.shut(io.EOF, io.ErrClosedPipe)
	c.in.shut(net.ErrClosed, io.ErrClosedPipe)
	return nil
}

func (c *memConn) SetDeadline(t time.Time) error {
	c.in.readBy.set(c.in, t)
	c.out.writeBy.set(c.out, t)
	return nil
}

func (c *memConn) SetReadDeadline(t time.Time) error  { c.in.readBy.set(c.in, t); return nil }
func (c *memConn) SetWriteDeadline(t time.Time) error { c.out.writeBy.set(c.out, t); return nil }

// half is one direction of a connection: a bounded buffer between a writer and
// a reader.
type half struct {
	mu      sync.Mutex
	changed sync.Cond // of everything below
	buf     []byte    // unread bytes, from off on
	off     int
	// readErr is what a read returns once buf is empty, writeErr what a write
	// returns at once; nil while open.
	readErr, writeErr error
	readBy, writeBy   deadline
}

func newHalf() *half {
	h := &half{}
	h.changed.L = &h.mu
	return h
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case errors.Is(h.readErr, net.ErrClosed):
			return 0, h.readErr
		case h.readBy.passed:
			return 0, os.ErrDeadlineExceeded
		case len(h.buf) > h.off:
			n := copy(p, h.buf[h.off:])
			h.take(n)
			return n, nil
		case h.readErr != nil:
			return 0, h.readErr
		case len(p) == 0:
			return 0, nil
		}
		h.changed.Wait()
	}
}

// take drops n bytes that were read, and an empty buffer that has grown, so
// that an idle connection holds next to nothing.
func (h *half) take(n int) {
	if h.off += n; h.off == len(h.buf) {
		h.buf, h.off = h.buf[:0], 0
		if cap(h.buf) > 4<<10 {
			h.buf = nil
		}
	}
	h.changed.Broadcast()
}

func (h *half) write(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.writeErr != nil:
			return n, h.writeErr
		case h.writeBy.passed:
			return n, os.ErrDeadlineExceeded
		case len(p) == 0:
			return n, nil
		}
		if room := memBuffer - (len(h.buf) - h.off); room > 0 {
			k := min(room, len(p))
			h.buf = append(h.buf[h.off:], p[:k]...)
			h.off = 0
			n, p = n+k, p[k:]
			h.changed.Broadcast()
			continue
		}
		h.changed.Wait()
	}
}

// shut ends the direction with what reads and writes return from now on. The
// first call of each kind wins, but net.ErrClosed also drops what is unread.
func (h *half) shut(readErr, writeErr error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readErr == nil || errors.Is(readErr, net.ErrClosed) {
		h.readErr = readErr
	}
	if h.writeErr == nil {
		h.writeErr = writeErr
	}
	h.readBy.stop()
	h.writeBy.stop()
	h.changed.Broadcast()
}

// deadline is guarded by the half's lock.
type deadline struct {
	timer  *time.Timer
	round  uint64 // so that a timer that lost against set does nothing
	passed bool
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.round++
}

func (d *deadline) set(h *half, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.stop()
	d.passed = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.passed = true
		h.changed.Broadcast()
		return
	}
	round := d.round
	d.timer = time.AfterFunc(wait, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if d.round == round {
			d.passed = true
			h.changed.Broadcast()
		}
	})
}
