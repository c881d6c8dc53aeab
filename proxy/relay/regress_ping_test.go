package relay_test

import (
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// grpc-go, Netty and C-core measure the link: a ping whenever DATA has come. An engine
// or a client that is only busy must not be taken for a flood of pings, which would
// end the streams of everybody on its connection.
func TestPingsThatFollowData(t *testing.T) {
	limits := relay.DefaultLimits()
	limits.Pings = 5 // fifty in a burst
	for name, acksOvertake := range map[string]bool{"after each frame": false, "after all that came at once": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigConfig{tcp: true, limits: limits, backend: limits})
			l, c, b := r.open(proxytest.PeerConfig{Discard: true}, proxytest.PeerConfig{Discard: true})
			l.answer()
			const n = 600
			for i := range n {
				c.Data(l.cid, false, []byte("x"))
				b.Data(l.bid, false, []byte("y"))
				if acksOvertake && i%20 != 19 {
					continue
				}
				b.Bytes(l.bid, i+1)
				c.Bytes(l.cid, i+1)
				pings := 1
				if acksOvertake {
					pings = 20 // their answers passed frames that were waiting
				}
				for range pings {
					b.Ping([8]byte{1})
					c.Ping([8]byte{2})
				}
			}
			c.Barrier()
			b.Barrier()
			if c.Pings() < n || b.Pings() < n {
				t.Errorf("%d and %d pings were answered, want %d", c.Pings(), b.Pings(), n)
			}
		})
	}
}

// What was downloaded buys no flood: pings are free up to one burst of them, and
// then they count, to the number.
func TestPingsDoNotAddUp(t *testing.T) {
	limits := relay.DefaultLimits()
	limits.Pings, limits.Tarpit = 5, -1
	r := newRig(t, rigConfig{tcp: true, limits: limits})
	l, c, b := r.open(proxytest.PeerConfig{Lenient: true, Discard: true}, proxytest.PeerConfig{})
	l.answer()
	for range 2000 {
		b.Send(l.bid, []byte("y"), false)
	}
	c.Bytes(l.cid, 2000)
	if n := flood(c, 100_000, func(int) { c.Ping([8]byte{3}) }); n == 100_000 {
		t.Error("pings that follow nothing were taken without end")
	}
	if code := c.WaitClosed(); code != int(http2.ErrCodeEnhanceYourCalm) {
		t.Errorf("closed with %d", code)
	}
	// Fifty that follow frames, fifty in a burst, five for each second that it takes.
	if n, most := c.Pings(), 2*10*limits.Pings+limits.Pings*int(proxytest.Patience.Seconds()); n > most {
		t.Errorf("%d pings were answered, want at most %d", n, most)
	}
}
