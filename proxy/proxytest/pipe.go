package proxytest

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipeBuffer is how many bytes one direction of a Pipe holds, about what a
// loopback socket does.
const pipeBuffer = 64 << 10

// Pipe returns the two ends of an in-memory connection. Unlike net.Pipe it has
// a buffer, so a peer may write while the other one is busy, and blocks only when
// 64 KiB wait. It works inside a testing/synctest bubble.
func Pipe() (a, b *Conn) {
	up, down := newQueue(), newQueue()
	a = &Conn{in: down, out: up, local: "a", remote: "b"}
	b = &Conn{in: up, out: down, local: "b", remote: "a"}
	return a, b
}

// Conn is one end of a Pipe.
type Conn struct {
	in, out       *queue
	local, remote Addr
}

// Addr is the address of something in memory.
type Addr string

// Network is "memory".
func (Addr) Network() string { return "memory" }

func (a Addr) String() string { return string(a) }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) { return c.out.write(p) }

// Close ends both directions. The other end still reads what was written.
func (c *Conn) Close() error {
	c.in.abandon()
	c.out.finish()
	return nil
}

// CloseWrite ends this end's direction only, as a TCP half-close does.
func (c *Conn) CloseWrite() error {
	c.out.finish()
	return nil
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	c.out.setWriteDeadline(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.setWriteDeadline(t)
	return nil
}

// queue is one direction of a Pipe.
type queue struct {
	mu        sync.Mutex
	changed   *sync.Cond
	buf       []byte
	finished  bool // the writer closed: EOF after buf
	abandoned bool // the reader closed: writes fail
	read0     alarm
	write0    alarm
}

// alarm is a deadline; gone says that it has passed.
type alarm struct {
	timer *time.Timer
	gone  bool
	turn  int // counts the settings, so that a late timer is told apart
}

func newQueue() *queue {
	q := &queue{}
	q.changed = sync.NewCond(&q.mu)
	return q
}

func (q *queue) read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case q.abandoned:
			return 0, net.ErrClosed
		case q.read0.gone:
			return 0, os.ErrDeadlineExceeded
		case len(q.buf) > 0:
			n := copy(p, q.buf)
			q.buf = append(q.buf[:0], q.buf[n:]...)
			q.changed.Broadcast()
			return n, nil
		case q.finished:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		q.changed.Wait()
	}
}

func (q *queue) write(p []byte) (n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case q.finished:
			return n, net.ErrClosed
		case q.abandoned:
			return n, io.ErrClosedPipe
		case q.write0.gone:
			return n, os.ErrDeadlineExceeded
		case len(p) == 0:
			return n, nil
		}
		if room := pipeBuffer - len(q.buf); room > 0 {
			k := min(room, len(p))
			q.buf = append(q.buf, p[:k]...)
			n, p = n+k, p[k:]
			q.changed.Broadcast()
			continue
		}
		q.changed.Wait()
	}
}

func (q *queue) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.finished = true
	q.write0.stop()
	q.changed.Broadcast()
}

func (q *queue) abandon() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.abandoned, q.buf = true, nil
	q.read0.stop()
	q.changed.Broadcast()
}

func (q *queue) setReadDeadline(t time.Time)  { q.setDeadline(&q.read0, t) }
func (q *queue) setWriteDeadline(t time.Time) { q.setDeadline(&q.write0, t) }

func (q *queue) setDeadline(a *alarm, t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a.stop()
	a.turn++
	turn := a.turn
	a.gone = !t.IsZero() && !t.After(time.Now())
	if !t.IsZero() && !a.gone {
		a.timer = time.AfterFunc(time.Until(t), func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			if a.turn == turn {
				a.gone = true
				q.changed.Broadcast()
			}
		})
	}
	q.changed.Broadcast()
}

func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}
