package relay_test

import (
	"strings"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// deaf opens a connection to the relay from which nothing is ever read. It
// returns a function that sends bytes and says false once the relay takes no more,
// at once or for the moment.
func deaf(t *testing.T, r *rig) *deafClient {
	t.Helper()
	d := &deafClient{conn: r.connect()}
	t.Cleanup(func() { _ = d.conn.Close() })
	d.framer = http2.NewFramer(deadlineWriter{d.conn}, nil)
	d.framer.AllowIllegalWrites = true
	if _, err := d.conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	if err := d.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return d
}

// A client that asks and never reads: refusals, answers and acknowledgements
// pile up somewhere. They must not pile up in the relay without bound.
func TestClientThatNeverReads(t *testing.T) {
	block := encodeFields(proxytest.Call("/refused"))
	long := encodeFields(proxytest.Call("/long"))
	tests := []struct {
		name string
		send func(d *deafClient, i int) error
	}{
		{"refused calls", func(d *deafClient, i int) error { return d.open(i, block) }},
		{"long refusals", func(d *deafClient, i int) error { return d.open(i, long) }},
		{"pings", func(d *deafClient, _ int) error { return d.framer.WritePing(false, [8]byte{}) }},
		{"settings", func(d *deafClient, _ int) error { return d.framer.WriteSettings() }},
		{"resets by us", func(d *deafClient, i int) error {
			return d.framer.WriteWindowUpdate(uint32(2*i+1), 0) //nolint:gosec // small
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wires(t, func(t *testing.T, cfg rigConfig) {
				long := unavailable(strings.Repeat("long ", 700))
				cfg.router = func(r *rig, s *relay.Stream) {
					if s.Header().Get(":path") == "/long" {
						s.Refuse(long)
						return
					}
					refusing(r, s)
				}
				r := newRig(t, cfg)
				other := newBystander(t, r)
				other.served()
				d := deaf(t, r)
				sent := 0
				grown := heapGrowth(func() {
					for sent = range 150_000 {
						if err := tt.send(d, sent); err != nil {
							break
						}
					}
					other.served()
				})
				// Without a bound 400,000 such calls held 38 MB.
				if grown > 8<<20 {
					t.Errorf("the heap grew by %d KiB for %d frames", grown>>10, sent)
				}
			})
		})
	}
}

// Streams that never open their window: what a backend pushes is held up to the
// window of each, and no more, and other clients are served.
func TestZeroWindowReaders(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		limits := relay.DefaultLimits()
		cfg.router = refusing
		r := newRig(t, cfg)
		other := newBystander(t, r)
		c := r.client(proxytest.PeerConfig{Settings: window(0), ManualWindow: true})
		var b *proxytest.Peer
		grown := heapGrowth(func() {
			piece := make([]byte, 1<<20)
			for i := range limits.Streams {
				c.Open(proxytest.Call(method), true)
				if b == nil {
					b = r.accept(proxytest.PeerConfig{})
				}
				id := b.Nth(i)
				b.Headers(id, false, ok200()...)
				b.Fill(id, piece)
			}
			b.Barrier()
			other.served()
		})
		if bound := 2*limits.Streams*limits.StreamWindow + 8<<20; grown > bound {
			t.Errorf("%d stalled streams hold %d KiB, want at most %d", limits.Streams, grown>>10, bound>>10)
		}
	})
}

// A body sent one byte a frame costs its sender a window, and must not cost the
// relay many times that: the frames' bookkeeping counts too.
func TestTinyFramesToAStalledStream(t *testing.T) {
	limits := relay.DefaultLimits()
	const bound = 4 << 20
	send := map[string]func(p *proxytest.Peer, id uint32) int{
		"in one go": func(p *proxytest.Peer, id uint32) int {
			n := 0
			for ; p.Room(id) > 0 && p.Err() == nil; n++ {
				p.Data(id, false, []byte{1})
			}
			p.Barrier()
			return n
		},
		"each on its own": func(p *proxytest.Peer, id uint32) int {
			const n = 4000
			for range n {
				p.Data(id, false, []byte{1})
				p.Barrier() // the relay has read this one before the next is sent
			}
			return n
		},
	}
	for name, f := range send {
		for _, side := range []string{"client", "backend", "undecided"} {
			t.Run(side+" "+name, func(t *testing.T) {
				wires(t, func(t *testing.T, cfg rigConfig) {
					cfg.limits.Pings, cfg.backend.Pings = 100_000, 100_000
					stalled := proxytest.PeerConfig{Settings: window(0), ManualWindow: true}
					if side == "undecided" {
						cfg.router = func(*rig, *relay.Stream) {}
						c := newRig(t, cfg).client(proxytest.PeerConfig{})
						id := c.Open(proxytest.Call(method), false)
						n := 0
						if grown := heapGrowth(func() { n = f(c, id) }); grown > bound {
							t.Errorf("%d bytes, one a frame, hold %d KiB; the window is %d KiB", n, grown>>10, limits.StreamWindow>>10)
						}
						return
					}
					l, c, b := newRig(t, cfg).open(stalled, stalled)
					l.answer()
					p, id := c, l.cid
					if side == "backend" {
						p, id = b, l.bid
					}
					n := 0
					if grown := heapGrowth(func() { n = f(p, id) }); grown > bound {
						t.Errorf("%d bytes, one a frame, hold %d KiB; the window is %d KiB", n, grown>>10, limits.StreamWindow>>10)
					}
				})
			})
		}
	}
}

// The length in a gRPC prefix is a claim, and nothing is allocated for it.
func TestLyingMessageLength(t *testing.T) {
	route, ws := watched()
	r := newRig(t, rigConfig{tcp: true, router: route})
	l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{}, 0, 0xff, 0xff, 0xff, 0xff, 'a', 'b', 'c')
	l.answer()
	grown := heapGrowth(func() {
		b.Send(l.bid, []byte{0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3}, false)
		c.Bytes(l.cid, 8)
	})
	if grown > 1<<20 {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
	l.done()
	c.Response(l.cid)
	(<-ws).over(t)
}

// A connection that was used once and is idle holds no buffer.
func TestIdleConnectionsAreSmall(t *testing.T) {
	r := newRig(t, rigConfig{tcp: true, router: refusing})
	const n = 200
	grown := heapGrowth(func() {
		for range n {
			c := r.client(proxytest.PeerConfig{})
			if got := c.Response(c.Open(proxytest.Call("/refused"), true)); !got.Ended {
				t.Fatal("not served")
			}
		}
	})
	// Both ends are in this process: the Peer's own end takes most of it.
	if each := grown / n; each > 64<<10 {
		t.Errorf("%d KiB for each idle connection", each>>10)
	}
	if conns, streams := r.server.Open(); conns != n || streams != 0 {
		t.Errorf("%d connections, %d streams", conns, streams)
	}
}
