package relay_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// oneStream are the settings of a backend that takes one stream at a time.
func oneStream() proxytest.PeerConfig {
	return proxytest.PeerConfig{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}}
}

// narrow is a rig whose backend has one connection.
func narrow(t *testing.T, wait time.Duration, forward func(s *relay.Stream, b *relay.Backend)) *rig {
	t.Helper()
	var r *rig
	b, err := relay.NewBackend(relay.BackendConfig{Name: "narrow", MaxConns: 1, ConnectTimeout: wait,
		Dial: func(ctx context.Context) (net.Conn, error) { return r.dialPeer(ctx) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	r = newRig(t, rigConfig{router: func(_ *rig, s *relay.Stream) { forward(s, b) }})
	return r
}

// A backend that goes away makes room for another connection at once, also while
// a stream still runs on the old one.
func TestGoAwayMakesRoomForThoseThatWait(t *testing.T) {
	r := narrow(t, 10*time.Second, func(s *relay.Stream, b *relay.Backend) { s.Forward(b, s.Header(), newWitness()) })
	c := r.client(proxytest.PeerConfig{})
	runs := c.Open(proxytest.Call(method), true)
	old := r.accept(oneStream())
	in := old.Accept()
	waits := c.Open(proxytest.Call(method), true)
	c.Barrier()
	old.GoAway(in.ID, http2.ErrCodeNo)
	fresh := r.accept(oneStream())
	fresh.Headers(fresh.Accept().ID, true, trailersOnly("0")...)
	if got := c.Response(waits); got.Header("grpc-status") != "0" {
		t.Errorf("the stream that waited read %+v", got)
	}
	old.Headers(in.ID, true, trailersOnly("0")...)
	c.Response(runs)
}

// A slot that was meant for a stream which has left goes to the next that waits.
func TestSlotOfAStreamThatLeft(t *testing.T) {
	call := newHalting("stop")
	streams := make(chan *relay.Stream, 10)
	r := narrow(t, 10*time.Second, func(s *relay.Stream, b *relay.Backend) {
		call.open.Add(1)
		streams <- s
		s.Forward(b, s.Header(), call)
	})
	begin := func(c *proxytest.Peer) (id uint32) {
		id = c.Open(proxytest.Call(method), false)
		c.Data(id, false, []byte("a"))
		c.Barrier()
		return id
	}
	c1, c2, c3 := r.client(proxytest.PeerConfig{}), r.client(proxytest.PeerConfig{}), r.client(proxytest.PeerConfig{})
	first := begin(c1)
	b := r.accept(oneStream())
	in := b.Accept()
	<-streams
	leaves := begin(c2)
	leaving := <-streams
	waits := begin(c3)
	c2.Data(leaves, false, []byte("stop"))
	<-call.at // in Edit, which holds the stream
	cut := make(chan struct{})
	go func() { defer close(cut); leaving.Cut(&relay.Reply{Reset: uint32(http2.ErrCodeCancel)}) }()
	c1.Reset(first, http2.ErrCodeCancel)
	b.WaitStream(in.ID, "reset", func(s *proxytest.Stream) bool { return s.Reset })
	// Whichever of the two has the stream first: it may still be opened, and reset.
	b.OnOpen(func(s proxytest.Stream) { b.Headers(s.ID, true, trailersOnly("0")...) })
	close(call.on)
	<-cut
	if got := c3.Response(waits); got.Header("grpc-status") != "0" {
		t.Errorf("the stream that waited read %+v", got)
	}
	c3.Reset(waits, http2.ErrCodeNo)
}

// A request that is cut after its answer was complete ends at the backend too, or
// its slot there would be lost.
func TestCutAfterTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWitness()
		w.edit = func(p []byte, end bool, e *relay.Edits) relay.Verdict {
			e.Keep(len(p))
			if end {
				e.Reply = unavailable("no")
				return relay.Cut
			}
			return relay.Pass
		}
		r := newRig(t, rigConfig{router: func(r *rig, s *relay.Stream) { s.Forward(r.backend, s.Header(), w) }})
		l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{}, 'a')
		b.Headers(l.bid, true, trailersOnly("13")...)
		c.Response(l.cid)
		c.Data(l.cid, true, []byte("z"))
		c.Barrier()
		b.WaitStream(l.bid, "a reset", func(s *proxytest.Stream) bool { return s.Reset })
		w.over(t)
	})
}

// A client that still sends is told to stop also where the end of its answer had to
// wait for its window.
func TestEndThatWaitedAsksForNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigConfig{router: func(_ *rig, s *relay.Stream) {
			s.Refuse(&relay.Reply{Status: "401", Body: []byte("no\n")})
		}})
		c := r.client(proxytest.PeerConfig{Settings: window(0)})
		id := c.Open(proxytest.Call(method), false)
		c.Headers1(id)
		c.Credit(id, 1000)
		c.WaitStream(id, "its end and a reset", func(s *proxytest.Stream) bool { return s.Ended && s.Reset })
		if _, open := r.server.Open(); open != 0 {
			t.Errorf("%d streams are left", open)
		}
	})
}
