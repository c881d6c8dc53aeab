package relay_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// A backend that goes away in order keeps its streams and gets no new ones.
func TestBackendGoesAway(t *testing.T) {
	tests := []struct {
		name string
		away func(b *proxytest.Peer, last uint32)
	}{
		{"two steps", func(b *proxytest.Peer, last uint32) {
			b.GoAway(1<<31-1, http2.ErrCodeNo)
			b.Barrier()
			b.GoAway(last, http2.ErrCodeNo)
			b.Barrier()
		}},
		{"at once", func(b *proxytest.Peer, last uint32) {
			b.GoAway(last, http2.ErrCodeNo)
			b.Barrier()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wires(t, func(t *testing.T, cfg rigConfig) {
				r := newRig(t, cfg)
				l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
				l.answer()
				c.Headers1(l.cid)
				tt.away(b, l.bid)

				id := c.Open(proxytest.Call(method, "x-second", "1"), true)
				b2 := r.accept(proxytest.PeerConfig{})
				in := b2.Accept()
				if in.Header("x-second") != "1" {
					t.Errorf("the second backend connection read %v", in.Blocks)
				}
				b2.Headers(in.ID, true, trailersOnly("0")...)
				c.Response(id)

				body := proxytest.Pattern(1, 300_000)
				c.Send(l.cid, body, true)
				if in := b.Response(l.bid); !bytes.Equal(in.Data, body) {
					t.Errorf("the leaving connection read %d bytes", in.Bytes)
				}
				b.Send(l.bid, body, false)
				b.Headers(l.bid, true, grpcOK()...)
				if got := c.Response(l.cid); !bytes.Equal(got.Data, body) || got.Trailer("grpc-status") != "0" {
					t.Errorf("the client read %d bytes, %v", got.Bytes, got.Blocks)
				}
				b.WaitClosed()
				if b.Opened() != 1 {
					t.Errorf("%d streams on the leaving connection", b.Opened())
				}
			})
		})
	}
}

// A stream that the backend says it has not looked at goes to another
// connection, whole, and the client does not notice.
func TestUnprocessedStreamIsSentAgain(t *testing.T) {
	refuse := map[string]func(b *proxytest.Peer, id uint32){
		"GOAWAY below it": func(b *proxytest.Peer, id uint32) { b.GoAway(id-2, http2.ErrCodeNo) },
		"REFUSED_STREAM":  func(b *proxytest.Peer, id uint32) { b.Reset(id, http2.ErrCodeRefusedStream) },
	}
	for name, f := range refuse {
		t.Run(name, func(t *testing.T) {
			wires(t, func(t *testing.T, cfg rigConfig) {
				r := newRig(t, cfg)
				l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
				l.done()
				c.Response(l.cid)
				body := proxytest.Pattern(8, 900)
				id := c.Open(proxytest.Call(method, "x-again", "1"), false)
				c.Send(id, body, true)
				in := b.Accept()
				b.Response(in.ID)
				f(b, in.ID)
				var b2 *proxytest.Peer
				if name == "REFUSED_STREAM" {
					b2 = b
				} else {
					b2 = r.accept(proxytest.PeerConfig{})
				}
				in = b2.Accept()
				in = b2.Response(in.ID)
				if in.Header("x-again") != "1" || !bytes.Equal(in.Data, body) || !in.Ended {
					t.Errorf("the second try read %d bytes, %v", in.Bytes, in.Blocks)
				}
				b2.Headers(in.ID, true, trailersOnly("0")...)
				if got := c.Response(id); got.Header("grpc-status") != "0" || got.Reset {
					t.Errorf("the client read %+v", got)
				}
			})
		})
	}
}

// What a backend may have acted on is never sent twice.
func TestProcessedStreamIsNotSentAgain(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		route, ws := watched()
		cfg.router = route
		r := newRig(t, cfg)
		l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{}, 'x')
		b.Bytes(l.bid, 1)
		_ = b.Conn().Close()
		got := c.Response(l.cid)
		w := <-ws
		if st := w.over(t); got.Header("grpc-status") != "14" || st.Err == nil || st.Status != "14" {
			t.Errorf("the client read %v; stats %+v", got.Blocks, st)
		}
		if br := w.broke(t); !br.Dialed || !br.Sent || br.Headers || br.Data || br.MidMessage || br.Err == nil {
			t.Errorf("break %+v", br)
		}
		if n := len(r.dialed); n != 0 {
			t.Errorf("%d more connections were dialed", n)
		}
	})
}

// A backend that dies: the client gets exactly what came, then the call's words.
func TestBackendDiesMidStream(t *testing.T) {
	message := proxytest.Message(proxytest.Pattern(1, 50_000))
	tests := []struct {
		name string
		send []byte
		mid  bool
	}{
		{"between messages", bytes.Repeat(message, 3), false},
		{"inside a message", append(bytes.Repeat(message, 3), message[:777]...), true},
		{"inside a prefix", append(bytes.Repeat(message, 3), message[:3]...), true},
		{"after headers only", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wires(t, func(t *testing.T, cfg rigConfig) {
				route, ws := watched()
				cfg.router = route
				l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{}, 'x')
				l.answer()
				if len(tt.send) > 0 {
					b.Send(l.bid, tt.send, false)
				}
				b.Barrier() // the relay has read everything before it sees the end
				_ = b.Conn().Close()
				got := c.Response(l.cid)
				if !bytes.Equal(got.Data, tt.send) || got.Trailer("grpc-status") != "14" || !got.Ended {
					t.Errorf("the client read %d of %d bytes, %v", got.Bytes, len(tt.send), got.Blocks)
				}
				w := <-ws
				if st := w.over(t); st.Out != uint64(len(tt.send)) || st.In != 1 || !errors.Is(st.Err, relay.ErrLost) {
					t.Errorf("stats %+v", st)
				}
				want := relay.Break{Dialed: true, Sent: true, Headers: true, Data: len(tt.send) > 0, MidMessage: tt.mid}
				br := w.broke(t)
				br.Err = nil
				if br != want {
					t.Errorf("break %+v, want %+v", br, want)
				}
			})
		})
	}
}

// A slow client of a dead backend still gets every byte that came.
func TestDeadBackendsBytesReachASlowClient(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		route, ws := watched()
		cfg.router = route
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{Settings: window(0), ManualWindow: true}, proxytest.PeerConfig{}, 'x')
		l.answer()
		body := proxytest.Pattern(4, 200_000)
		b.Send(l.bid, body, false)
		b.Barrier()
		b.Close()
		c.Headers1(l.cid)
		c.Credit(0, 1<<20)
		for range 10 {
			c.Credit(l.cid, 20_000)
			c.Barrier()
		}
		c.Credit(l.cid, 1)
		if got := c.Response(l.cid); !bytes.Equal(got.Data, body) || got.Trailer("grpc-status") != "14" {
			t.Errorf("the client read %d bytes, %v", got.Bytes, got.Blocks)
		}
		(<-ws).over(t)
	})
}

// The backend's bound on streams is kept: more streams get another connection.
func TestBackendStreamLimit(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		few := proxytest.PeerConfig{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 2}}}
		r := newRig(t, cfg)
		c := r.client(proxytest.PeerConfig{})
		var ids []uint32
		for range 6 {
			ids = append(ids, c.Open(proxytest.Call(method), true))
		}
		var backs []*proxytest.Peer
		for range 3 {
			b := r.accept(few)
			b.WaitOpened(2)
			b.Barrier()
			if n := b.Opened(); n != 2 {
				t.Fatalf("%d streams on a connection that takes 2", n)
			}
			backs = append(backs, b)
		}
		for _, b := range backs {
			for range 2 {
				b.Headers(b.Accept().ID, true, trailersOnly("0")...)
			}
		}
		for _, id := range ids {
			if got := c.Response(id); got.Header("grpc-status") != "0" {
				t.Errorf("stream %d: %+v", id, got)
			}
		}
	})
}

// Where no more connections may be made, streams wait for a slot, in order.
func TestStreamsWaitForASlot(t *testing.T) {
	r := newRig(t, rigConfig{})
	var err error
	r.backend.Close()
	r.backend, err = relay.NewBackend(relay.BackendConfig{Name: "one", Dial: r.dialPeer, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	c := r.client(proxytest.PeerConfig{})
	var ids []uint32
	for range 20 {
		ids = append(ids, c.Open(proxytest.Call(method), true))
	}
	b := r.accept(proxytest.PeerConfig{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}})
	for i := range ids {
		in := b.Accept()
		b.Barrier()
		if n := b.Opened(); n != i+1 {
			t.Fatalf("%d streams opened, one at a time is allowed and %d are done", n, i)
		}
		b.Headers(in.ID, true, trailersOnly("0")...)
		c.Response(ids[i])
	}
	if len(r.dialed) != 0 {
		t.Error("a second connection was dialed")
	}
}

// A limit that shrinks to zero and comes back.
func TestBackendStreamLimitChanges(t *testing.T) {
	limit := func(n uint32) http2.Setting { return http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n} }
	r := newRig(t, rigConfig{})
	r.backend.Close()
	var err error
	r.backend, err = relay.NewBackend(relay.BackendConfig{Name: "one", Dial: r.dialPeer, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	c := r.client(proxytest.PeerConfig{})
	id := c.Open(proxytest.Call(method), true)
	b := r.accept(proxytest.PeerConfig{Settings: []http2.Setting{limit(0)}})
	b.WaitSettings()
	b.Barrier()
	if b.Opened() != 0 {
		t.Fatal("a stream was opened where none is allowed")
	}
	b.Settings(limit(1))
	b.Headers(b.Accept().ID, true, trailersOnly("0")...)
	c.Response(id)
	b.Settings(limit(0))
	b.WaitSettings()
	id = c.Open(proxytest.Call(method), true)
	c.Barrier()
	b.Barrier()
	if b.Opened() != 1 {
		t.Fatal("a stream was opened where none is allowed any more")
	}
	b.Settings(limit(5))
	b.Headers(b.Accept().ID, true, trailersOnly("0")...)
	c.Response(id)
}

// A backend that cannot be reached at first: streams wait, nothing is lost.
func TestDialIsRetried(t *testing.T) {
	var r *rig
	var tries atomic.Int32
	cfg := rigConfig{dial: func(ctx context.Context) (net.Conn, error) {
		if tries.Add(1) <= 3 {
			return nil, errors.New("connection refused")
		}
		return r.dialPeer(ctx)
	}}
	r = newRig(t, cfg)
	c := r.client(proxytest.PeerConfig{})
	a, b := c.Open(proxytest.Call(method), true), c.Open(proxytest.Call(method), true)
	back := r.accept(proxytest.PeerConfig{})
	for range 2 {
		back.Headers(back.Accept().ID, true, trailersOnly("0")...)
	}
	c.Response(a)
	c.Response(b)
	if n := tries.Load(); n != 4 {
		t.Errorf("%d dials for one connection", n)
	}
}

// A stream whose client has gone does not keep its place in the queue.
func TestGoneWhileDialing(t *testing.T) {
	gate := make(chan struct{})
	var r *rig
	r = newRig(t, rigConfig{dial: func(ctx context.Context) (net.Conn, error) {
		select {
		case <-gate:
			return r.dialPeer(ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	c := r.client(proxytest.PeerConfig{})
	first := c.Open(proxytest.Call(method, "x-n", "1"), true)
	second := c.Open(proxytest.Call(method, "x-n", "2"), true)
	c.Reset(first, http2.ErrCodeCancel)
	c.Barrier()
	close(gate)
	b := r.accept(proxytest.PeerConfig{})
	in := b.Accept()
	if in.Header("x-n") != "2" {
		t.Errorf("the backend read stream %q first", in.Header("x-n"))
	}
	b.Headers(in.ID, true, trailersOnly("0")...)
	c.Response(second)
	if b.Opened() != 1 {
		t.Errorf("%d streams reached the backend", b.Opened())
	}
}

// One connection carries the streams of many clients.
func TestConnectionsAreShared(t *testing.T) {
	r := newRig(t, rigConfig{})
	first := r.client(proxytest.PeerConfig{})
	id := first.Open(proxytest.Call(method), true)
	b := r.accept(proxytest.PeerConfig{})
	b.Headers(b.Accept().ID, true, trailersOnly("0")...)
	first.Response(id)
	for range 10 {
		c := r.client(proxytest.PeerConfig{})
		id := c.Open(proxytest.Call(method), true)
		b.Headers(b.Accept().ID, true, trailersOnly("0")...)
		c.Response(id)
		c.Close()
	}
	if len(r.dialed) != 0 {
		t.Error("another connection was dialed")
	}
}

// A request whose answer has ended may still be sent when its backend has gone:
// the client can finish it, or is told to stop; it does not wait for credit for ever.
func TestUploadAfterItsBackendIsGone(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		route, ws := watched()
		cfg.router = route
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{}, 'x')
		b.Headers(l.bid, true, trailersOnly("0")...)
		c.WaitStream(l.cid, "answer", func(s *proxytest.Stream) bool { return s.Ended })
		b.Close()
		c.Send(l.cid, proxytest.Pattern(1, 3*relay.DefaultLimits().MaxStreamWindow), true)
		if got := c.Stream(l.cid); got.Reset && got.Code != http2.ErrCodeNo {
			t.Errorf("reset with %v after the answer", got.Code)
		}
		if st := (<-ws).over(t); st.Status != "0" {
			t.Errorf("stats %+v", st)
		}
	})
}
