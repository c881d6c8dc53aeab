package relay_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// A connection past its age is told so in two steps; its streams go on, and it ends
// behind them. Ages differ by up to a tenth each way.
func TestMaxAge(t *testing.T) {
	const age = 10 * time.Minute
	for name, tc := range map[string]struct {
		rand float64
		want time.Duration
	}{
		"youngest": {0, 9 * time.Minute},
		"middle":   {0.5, age},
		"oldest":   {0.999999, 11 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, rigConfig{maxAge: age, rand: func() float64 { return tc.rand }})
				l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
				l.answer()
				time.Sleep(tc.want - time.Second)
				synctest.Wait()
				if got := c.Count(http2.FrameGoAway); got != 0 {
					t.Fatalf("%d GOAWAY before %v", got, tc.want)
				}
				time.Sleep(4 * time.Second) // connections are looked at now and then
				if f := c.WaitGoAway(1); f.Last != 1<<31-1 || f.Code != http2.ErrCodeNo {
					t.Errorf("first GOAWAY: %s", f.String())
				}
				if f := c.WaitGoAway(2); f.Last != l.cid || f.Code != http2.ErrCodeNo {
					t.Errorf("second GOAWAY: %s", f.String())
				}
				time.Sleep(time.Hour)
				if c.Closed() {
					t.Fatal("closed with an open stream")
				}
				b.Send(l.bid, []byte("late"), false)
				l.done()
				if got := c.Response(l.cid); string(got.Data) != "late" || got.Trailer("grpc-status") != "0" {
					t.Errorf("the stream read %+v", got)
				}
				c.WaitClosed()
				if c.Count(http2.FrameGoAway) != 2 {
					t.Errorf("%d GOAWAY", c.Count(http2.FrameGoAway))
				}
				// The server goes on: a new connection is served.
				again := r.client(proxytest.PeerConfig{})
				again.Barrier()
			})
		})
	}
}

// An old connection is not a drain: nothing is handed over.
func TestMaxAgeHandsNothingOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handing{}
		_, l, c, b := handingRig(t, rigConfig{maxAge: time.Minute}, h)
		time.Sleep(2 * time.Minute)
		c.WaitGoAway(2)
		body := proxytest.Message(proxytest.Pattern(1, 1000))
		b.Send(l.bid, body, false)
		b.Send(l.bid, body, false)
		l.done()
		if got := c.Response(l.cid); len(got.Data) != 2*len(body) || h.asked != 0 {
			t.Errorf("the client read %d bytes; asked %d times", len(got.Data), h.asked)
		}
	})
}

func TestMaxAgeIsNotNegative(t *testing.T) {
	route := routerFunc(func(*relay.Stream) {})
	if _, err := relay.NewServer(relay.ServerConfig{Router: route, MaxAge: -1}); err == nil {
		t.Error("a negative age was taken")
	}
}
