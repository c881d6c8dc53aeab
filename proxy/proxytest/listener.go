package proxytest

import (
	"context"
	"net"
	"sync"
	"testing"
)

// Listener is a net.Listener in memory. Its other side is Dial.
type Listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  Addr
}

// Listen returns a Listener that is closed with the test.
func Listen(t testing.TB) *Listener {
	l := &Listener{conns: make(chan net.Conn), done: make(chan struct{}), addr: "memory"}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// Dial connects to the listener and waits until it accepts.
func (l *Listener) Dial(ctx context.Context) (net.Conn, error) {
	near, far := Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.addr }

// TCP listens on a free loopback port until the test ends.
func TCP(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen on loopback: %v", err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// Accept takes the next connection of l and fails the test after Patience.
func Accept(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	type result struct {
		conn net.Conn
		err  error
	}
	ch := make(chan result, 1)
	go func() {
		c, err := l.Accept()
		ch <- result{c, err}
	}()
	timer, stop := patience()
	defer stop()
	select {
	case r := <-ch:
		if r.err != nil {
			t.Fatalf("accept: %v", r.err)
		}
		return r.conn
	case <-timer:
		_ = l.Close()
		t.Fatalf("no connection came")
	}
	return nil
}
