package relay_test

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
)

// A process that is stopped for longer than an answer may take (SIGSTOP, a machine that is
// moved) must not end the connections of those who answered meanwhile. Whether the watch or
// the reader runs first then is chance; here the watch does: the first connection that it
// ends holds it up for the time of the freeze, and what the other peer says is read a
// moment after that.
func TestFreezeEndsNoConnection(t *testing.T) {
	const freeze = 20 * time.Second
	limits := relay.DefaultLimits()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigConfig{})
		over := make(chan struct{})
		near, far := proxytest.Pipe()
		asked := time.Now().Add(limits.PingAfter)
		r.accepts(frozenReads{far, asked.Add(-time.Second), over})
		c := proxytest.Client(t, near, proxytest.PeerConfig{})
		id := c.Open(proxytest.Call(method), false)
		b := r.accept(proxytest.PeerConfig{})
		l := &link{c: c, b: b, cid: id, bid: b.Accept().ID}
		l.answer()

		time.Sleep(limits.PingAfter - limits.Preface/2)
		_, held := proxytest.Pipe() // says nothing: it is ended between the ping and its answer
		r.accepts(&frozenClose{Conn: held, long: freeze, over: over})
		<-over
		time.Sleep(limits.PingTimeout)
		synctest.Wait()
		if c.Closed() {
			t.Fatal("the client answered, and its connection was ended")
		}
		l.done()
		if got := c.Response(l.cid); got.Trailer("grpc-status") != "0" {
			t.Errorf("the client read %+v", got)
		}
	})
}

// accepts serves a connection that a client made.
func (r *rig) accepts(conn net.Conn) {
	r.serving.Go(func() { r.server.ServeConn(conn, relay.Peer{Addr: conn.RemoteAddr()}) })
}

// frozenReads is a connection of which nothing is read from then on until it is over.
type frozenReads struct {
	net.Conn
	then time.Time
	over <-chan struct{}
}

func (c frozenReads) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if time.Now().After(c.then) {
		<-c.over
	}
	return n, err
}

// frozenClose is a connection whose first close takes so long; a moment later it is over.
type frozenClose struct {
	net.Conn
	long   time.Duration
	over   chan<- struct{}
	closed atomic.Bool
}

func (c *frozenClose) Close() error {
	if !c.closed.Swap(true) {
		time.Sleep(c.long)
		time.AfterFunc(time.Millisecond, func() { close(c.over) })
	}
	return c.Conn.Close()
}
