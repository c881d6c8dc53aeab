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
