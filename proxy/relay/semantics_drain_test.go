package relay_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// shutdown runs Shutdown in its own goroutine.
func (r *rig) shutdown(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	go func() { done <- r.server.Shutdown(ctx) }()
	return done
}

// Drain in two steps: first no id is refused, then the last one is named; what
// is open goes on to its end, and the connection closes behind it.
func TestDrain(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if !drains(t, rigConfig{}) {
				t.Error("the second step came before its time")
			}
		})
	})
	for name, certs := range map[string]*proxytest.Certs{"tcp": nil, "tls": proxytest.NewCerts(t)} {
		t.Run(name, func(t *testing.T) {
			for tries := 10; !drains(t, rigConfig{tcp: true, tls: certs}); tries-- {
				if tries == 0 {
					t.Fatal("the second step came before its time, again and again")
				}
			}
		})
	}
}

// drains is false where the second step came before a stream that was on its way: in real
// time, on a slow machine, it may.
func drains(t *testing.T, cfg rigConfig) bool {
	r := newRig(t, cfg)
	l, c, b := r.open(proxytest.PeerConfig{ManualAck: true}, proxytest.PeerConfig{})
	c.Frame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	l.answer()
	c.Headers1(l.cid)
	b.OnOpen(func(s proxytest.Stream) {
		if s.Header("x-late") == "1" {
			b.Headers(s.ID, true, trailersOnly("0")...)
		}
	})
	idle := r.client(proxytest.PeerConfig{})
	idle.Barrier()
	done := r.shutdown(context.Background())

	if f := c.WaitGoAway(1); f.Last != 1<<31-1 || f.Code != http2.ErrCodeNo {
		t.Errorf("first GOAWAY: %s", f.String())
	}
	// A stream that was on its way is still served.
	id := c.Open(proxytest.Call(method, "x-late", "1"), true)
	got := c.Response(id)
	f := c.WaitGoAway(2)
	if got.Reset && got.Code == http2.ErrCodeRefusedStream && f.Last == l.cid {
		return false
	}
	if got.Header("grpc-status") != "0" {
		t.Errorf("the stream between the steps read %+v", got)
	}
	if f.Last < id || f.Last > id || f.Code != http2.ErrCodeNo {
		t.Errorf("second GOAWAY: %s, the last stream is %d", f.String(), id)
	}
	// After the second step a new stream is refused, safe to try elsewhere.
	over := c.Open(proxytest.Call(method), true)
	if got := c.Response(over); !got.Reset || got.Code != http2.ErrCodeRefusedStream {
		t.Errorf("the stream after the steps read %+v", got)
	}
	idle.WaitClosed()
	select {
	case err := <-done:
		t.Fatalf("Shutdown returned %v with an open stream", err)
	default:
	}
	body := proxytest.Pattern(1, 500_000)
	b.Send(l.bid, body, false)
	l.done()
	if got := c.Response(l.cid); !bytes.Equal(got.Data, body) || got.Trailer("grpc-status") != "0" {
		t.Errorf("the open stream read %d bytes, %v", got.Bytes, got.Blocks)
	}
	c.WaitClosed()
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if conns, streams := r.server.Open(); conns != 0 || streams != 0 {
		t.Errorf("%d connections and %d streams left", conns, streams)
	}
	return true
}

// When its context ends, Shutdown closes what is left.
func TestDrainEndsWithItsContext(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		route, ws := watched()
		cfg.router = route
		r := newRig(t, cfg)
		l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{}, 'x')
		l.answer()
		c.Headers1(l.cid)
		ctx, cancel := context.WithCancel(t.Context())
		done := r.shutdown(ctx)
		c.WaitGoAway(2)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown: %v", err)
		}
		c.WaitClosed()
		if in := b.Response(l.bid); !in.Reset {
			t.Error("the backend's stream goes on")
		}
		if st := (<-ws).over(t); !st.Reset {
			t.Errorf("stats %+v", st)
		}
	})
}

// A server that drains takes no new connections.
func TestNoConnectionWhileDraining(t *testing.T) {
	r := newRig(t, rigConfig{})
	if err := r.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := proxytest.Client(t, r.connect(), proxytest.PeerConfig{Lenient: true})
	c.WaitClosed()
}

// A client that says GOAWAY still gets the answers of its streams.
func TestClientGoesAway(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
		c.GoAway(0, http2.ErrCodeNo)
		c.Barrier()
		l.answer()
		b.Send(l.bid, []byte("body"), false)
		l.done()
		if got := c.Response(l.cid); string(got.Data) != "body" || got.Trailer("grpc-status") != "0" {
			t.Errorf("the client read %+v", got)
		}
	})
}

// A client that is gone takes its streams at the backend with it, and its
// calls hear of it.
func TestClientConnectionLost(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		route, ws := watched()
		cfg.router = route
		r := newRig(t, cfg)
		l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{}, 'x')
		for range 9 {
			id := c.Open(proxytest.Call(method), false)
			c.Data(id, false, []byte("x"))
		}
		b.WaitOpened(10)
		l.answer()
		c.Close()
		for i := range 10 {
			in := b.Response(b.Nth(i))
			if !in.Reset || in.Code != http2.ErrCodeCancel {
				t.Errorf("stream %d at the backend: reset=%v %v", in.ID, in.Reset, in.Code)
			}
			if st := (<-ws).over(t); !st.Client || !st.Reset || st.In != 1 {
				t.Errorf("stats %+v", st)
			}
		}
		b.Barrier() // the backend's connection lives on
	})
}

// Time: silence is asked about by a ping, and ends the connection without an
// answer; the first bytes must come soon.
func TestSilenceIsAskedAbout(t *testing.T) {
	limits := relay.DefaultLimits()
	t.Run("client", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, rigConfig{})
			l, c, b := r.open(proxytest.PeerConfig{ManualAck: true}, proxytest.PeerConfig{})
			time.Sleep(limits.PingAfter / 2)
			c.Raw(nil)
			if c.Closed() {
				t.Fatal("a client was given up before it was asked")
			}
			time.Sleep(2 * (limits.PingAfter + limits.PingTimeout))
			c.WaitClosed()
			if c.Count(http2.FramePing) == 0 {
				t.Error("it was not asked")
			}
			if in := b.Response(l.bid); !in.Reset {
				t.Error("its stream at the backend goes on")
			}
		})
	})
	t.Run("backend", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			route, ws := watched()
			r := newRig(t, rigConfig{router: route})
			l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{ManualAck: true}, 'x')
			time.Sleep(limits.PingAfter + limits.PingTimeout + time.Second)
			b.WaitClosed()
			if got := c.Response(l.cid); got.Header("grpc-status") != "14" {
				t.Errorf("the client read %+v", got)
			}
			if st := (<-ws).over(t); !errors.Is(st.Err, relay.ErrLost) && !errors.Is(st.Err, relay.ErrSilent) {
				t.Errorf("stats %+v", st)
			}
		})
	})
}

// Spark before 4.3 ends a connection at the third ping that comes within five
// minutes of another while it has nothing to say: a query may be silent for hours.
func TestBackendsAreAskedPolitely(t *testing.T) {
	limits := relay.DefaultLimits()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigConfig{})
		l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
		l.answer()
		pings := func(during time.Duration) int {
			before := b.Count(http2.FramePing)
			time.Sleep(during)
			synctest.Wait()
			return b.Count(http2.FramePing) - before
		}
		// One that is in order, one that is not; the third would be the end.
		if n := pings(5 * time.Minute); n != 2 {
			t.Errorf("%d pings in the first five minutes of silence, want 2", n)
		}
		if n := pings(time.Hour); n < 9 || n > 12 {
			t.Errorf("%d pings in the next hour, want one every five minutes and a little", n)
		}
		b.Send(l.bid, []byte("x"), false)
		if n := pings(limits.PingAfter + 5*time.Second); n != 1 {
			t.Errorf("%d pings soon after something was said, want 1", n)
		}
		l.done()
		c.Response(l.cid)
		if n := pings(3 * time.Hour); n != 0 {
			t.Errorf("%d pings to a backend without streams, want none", n)
		}
	})
}

// A backend that answers no more is noticed soon where it spoke within the last minute,
// and in some minutes where all its streams had been silent for longer.
func TestHungBackendIsNoticed(t *testing.T) {
	for silent, most := range map[time.Duration]time.Duration{0: 45 * time.Second, 10 * time.Minute: 6 * time.Minute} {
		t.Run(silent.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, rigConfig{})
				l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
				l.answer()
				b.Send(l.bid, []byte("x"), false)
				c.Bytes(l.cid, 1)
				time.Sleep(silent)
				b.Hang()
				time.Sleep(most)
				synctest.Wait()
				if s := c.Stream(l.cid); !s.Ended && !s.Reset {
					t.Errorf("after %s of silence it hangs, and %s later its stream is open", silent, most)
				}
				if !b.Closed() {
					t.Error("its connection is open")
				}
			})
		})
	}
}

// A connection that says nothing at first is closed in time.
func TestPrefaceMustCome(t *testing.T) {
	limits := relay.DefaultLimits()
	for name, say := range map[string]string{
		"nothing":                "",
		"half a preface":         http2.ClientPreface[:10],
		"a preface, no SETTINGS": http2.ClientPreface,
		"and half a frame":       http2.ClientPreface + "\x00\x00\x06\x04",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, rigConfig{})
				c := r.client(proxytest.PeerConfig{Silent: true, ManualAck: true, Lenient: true})
				c.Raw([]byte(say))
				time.Sleep(limits.Preface - time.Second)
				synctest.Wait()
				if c.Closed() {
					t.Error("closed too early")
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if !c.Closed() {
					t.Errorf("still open after %v", limits.Preface+time.Second)
				}
			})
		})
	}
}

// And so is one to a backend that does not speak HTTP/2.
func TestSilentBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigConfig{})
		c := r.client(proxytest.PeerConfig{})
		c.Open(proxytest.Call(method), true)
		conn := r.conn()
		b := proxytest.Server(t, conn, proxytest.PeerConfig{Silent: true, ManualAck: true, Lenient: true})
		time.Sleep(relay.DefaultLimits().Preface + time.Second)
		synctest.Wait()
		if !b.Closed() {
			t.Error("the relay waits for ever for a backend's SETTINGS")
		}
	})
}

// An idle connection that answers is kept for as long as it likes.
func TestIdleConnectionIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigConfig{})
		l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
		l.done()
		c.Response(l.cid)
		time.Sleep(3 * time.Hour) // fake time
		l = l.next()
		l.done()
		if got := c.Response(l.cid); got.Trailer("grpc-status") != "0" {
			t.Errorf("the client read %+v", got)
		}
		b.Barrier()
	})
}

// A frame or a header block that never ends cannot be finished by a peer which
// does not answer a ping: it ends the connection like any silence.
func TestUnfinishedFrames(t *testing.T) {
	limits := relay.DefaultLimits()
	for name, begin := range map[string]func(c *proxytest.Peer){
		"half a DATA frame":            func(c *proxytest.Peer) { c.Raw([]byte{0, 0x40, 0, 0, 0, 0, 0, 0, 1, 'x'}) },
		"half a header block":          func(c *proxytest.Peer) { c.Frame(http2.FrameHeaders, 0, 3, []byte{0x82}) },
		"half a frame's head":          func(c *proxytest.Peer) { c.Raw([]byte{0, 0}) },
		"a full frame of half a block": func(c *proxytest.Peer) { c.Frame(http2.FrameHeaders, 0, 3, make([]byte, 16000)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, rigConfig{})
				l, c, b := r.open(proxytest.PeerConfig{ManualAck: true, Lenient: true}, proxytest.PeerConfig{})
				begin(c)
				time.Sleep(2 * (limits.PingAfter + limits.PingTimeout))
				c.WaitClosed()
				if in := b.Response(l.bid); !in.Reset {
					t.Error("its stream at the backend goes on")
				}
			})
		})
	}
}
