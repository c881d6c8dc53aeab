package relay

import (
	"bytes"
	"testing"
)

// deafWire is a wire that nobody reads and that never fails.
type deafWire struct{ plainWire }

func (*deafWire) shut() {}

// flight is the bytes that the connection's writer would write now.
func flight(t *testing.T, c *conn) []byte {
	t.Helper()
	if !c.nextBatch() {
		t.Fatal("nothing is to be written")
	}
	return bytes.Join(c.flying.bufs, nil)
}

func put(c *conn, b string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put([]byte(b))
}

// What waits on a connection that is dead keeps its chunk until it is cleared away:
// another connection may have it by then.
func TestDeadConnectionLetsGoOnce(t *testing.T) {
	var pool buffers
	lim := DefaultLimits()
	for range 50 { // a sync.Pool may lose what it is given
		c := newConn(BackendSide, &deafWire{}, &pool, &lim)
		h := openHalf(c, 1, 10)
		c.fail()
		deliver(c, h, bytes.Repeat([]byte("a"), 100))
		other := pool.get(0)
		clear(other.buf)
		deliver(c, h, bytes.Repeat([]byte("b"), 100))
		if bytes.IndexByte(other.buf, 'b') >= 0 {
			t.Fatal("a dead connection wrote into a chunk that another one owns")
		}
	}
}

// Streams that end while the connection's window is shut are not remembered as
// waiting for it.
func TestEndedStreamsDoNotWaitForTheWindow(t *testing.T) {
	var pool buffers
	lim := DefaultLimits()
	c := newConn(ClientSide, &deafWire{}, &pool, &lim)
	c.role = &clientConn{conn: c}
	c.sendWindow = 0
	for i := range uint32(100) {
		h := openHalf(c, 2*i+1, firstWindow)
		deliver(c, h, []byte("x"))
		c.mu.Lock()
		c.remove(h, &c.turn)
		c.mu.Unlock()
	}
	if len(c.blocked) > 0 {
		t.Errorf("%d streams that are over wait for the window", len(c.blocked))
	}
}

// openHalf is a stream that is open on c and may be sent so many bytes.
func openHalf(c *conn, id uint32, window int64) *half {
	s := &Stream{}
	s.back = &s.back0
	h := &s.front
	if c.side == BackendSide {
		h = s.back
	}
	s.front.stream, s.back.stream = s, s
	h.conn, h.id, h.opened, h.sendWindow, h.window = c, id, true, window, int64(c.lim.StreamWindow)
	c.streams[id] = h
	return h
}

func deliver(c *conn, h *half, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deliver(h, segment{body: b}, &c.turn)
}

// What a connection collects its output in goes to another one when it dies with
// output that was never written. The other one must not collect in the array that
// it writes from: what is committed during a write would be lost with it.
func TestOutputOutlivesADeadNeighbour(t *testing.T) {
	var pool buffers
	lim := DefaultLimits()
	for range 100 { // a sync.Pool may lose what it is given
		dead := newConn(ClientSide, &deafWire{}, &pool, &lim)
		put(dead, "first")
		dead.writing = true
		flight(t, dead)
		dead.flying.wrote(len("first"), &dead.turn)
		put(dead, "never written")
		dead.fail()
		if dead.nextBatch() {
			t.Fatal("a dead connection writes")
		}

		c := newConn(ClientSide, &deafWire{}, &pool, &lim)
		c.greet("hello")
		c.writing = true
		c.flying.wrote(len(flight(t, c)), &c.turn)
		put(c, "one")
		if got := string(flight(t, c)); got != "one" {
			t.Fatalf("%q is written, want one", got)
		}
		put(c, "two") // while one is on its way
		c.flying.wrote(len("one"), &c.turn)
		if got := string(flight(t, c)); got != "two" {
			t.Fatalf("%q is written, want two", got)
		}
		c.flying.wrote(len("two"), &c.turn)
		if c.nextBatch() {
			t.Fatal("more is written than was committed")
		}
	}
}
