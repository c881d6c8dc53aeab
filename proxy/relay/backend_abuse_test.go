package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// scope is how far the fault of a backend reaches.
type scope int

const (
	none       scope = iota // it is ignored
	streamOnly              // its stream ends, the connection lives
	connection              // the backend's connection ends
	either                  // RFC 9113 allows both, but somebody must be told
)

// What a hostile or broken backend may do. In every case the client's stream
// ends in a way that it can read, its connection lives, and the next stream is
// served over a sound connection.
func TestHostileBackend(t *testing.T) {
	f := proxytest.Fields
	tests := []struct {
		name  string
		scope scope
		do    func(b *proxytest.Peer, id uint32)
	}{
		{"MAX_FRAME_SIZE of 0", connection, func(b *proxytest.Peer, _ uint32) { b.Settings(http2.Setting{ID: http2.SettingMaxFrameSize}) }},
		{"INITIAL_WINDOW_SIZE of 2^32-1", connection, func(b *proxytest.Peer, _ uint32) {
			b.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<32 - 1})
		}},
		{"ENABLE_PUSH of 1", connection, func(b *proxytest.Peer, _ uint32) { b.Settings(http2.Setting{ID: http2.SettingEnablePush, Val: 1}) }},
		{"a push", connection, func(b *proxytest.Peer, id uint32) {
			b.Frame(http2.FramePushPromise, 4, id, append([]byte{0, 0, 0, 2}, encodeFields(proxytest.Call("/pushed"))...))
		}},
		{"headers on a stream that was not opened", connection, func(b *proxytest.Peer, id uint32) { b.Headers(id+100, true, ok200()...) }},
		{"data on a stream that was not opened", connection, func(b *proxytest.Peer, id uint32) { b.Data(id+100, true, []byte("x")) }},
		{"headers on an even stream", connection, func(b *proxytest.Peer, _ uint32) { b.Headers(2, true, ok200()...) }},
		{"data on stream 0", connection, func(b *proxytest.Peer, _ uint32) { b.Data(0, true, []byte("x")) }},
		{"a frame that is too large", connection, func(b *proxytest.Peer, id uint32) { b.Frame(http2.FrameData, 0, id, make([]byte, 1<<20)) }},
		{"headers that are no HPACK", connection, func(b *proxytest.Peer, id uint32) { b.Block(id, true, []byte{0xff, 0xff, 0xff, 0xff, 0xff}) }},
		{"a frame inside a header block", connection, func(b *proxytest.Peer, id uint32) {
			b.Frame(http2.FrameHeaders, 0, id, []byte{0x88})
			b.Ping([8]byte{})
		}},
		{"text in place of HTTP/2", connection, func(b *proxytest.Peer, _ uint32) {
			b.Raw([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))
		}},
		{"endless CONTINUATION", connection, func(b *proxytest.Peer, id uint32) {
			b.Frame(http2.FrameHeaders, 0, id, []byte{0x88})
			flood(b, 100_000, func(int) { b.Frame(http2.FrameContinuation, 0, id, nil) })
		}},
		{"a gigabyte of headers", connection, func(b *proxytest.Peer, id uint32) {
			b.Frame(http2.FrameHeaders, 0, id, []byte{0x88})
			big := literal("x", strings.Repeat("y", 16_000))
			flood(b, 1<<30/len(big), func(int) { b.Frame(http2.FrameContinuation, 0, id, big) })
		}},
		{"a gigabyte of trailers", connection, func(b *proxytest.Peer, id uint32) {
			b.Headers(id, false, ok200()...)
			b.Frame(http2.FrameHeaders, 1, id, encodeFields(grpcOK()))
			big := literal("x", strings.Repeat("y", 16_000))
			flood(b, 1<<30/len(big), func(int) { b.Frame(http2.FrameContinuation, 0, id, big) })
		}},
		{"pings without end", connection, func(b *proxytest.Peer, _ uint32) {
			flood(b, 200_000, func(int) { b.Ping([8]byte{}) })
		}},
		{"settings without end", connection, func(b *proxytest.Peer, _ uint32) {
			flood(b, 200_000, func(int) { b.Settings() })
		}},
		{"a connection window that overflows", connection, func(b *proxytest.Peer, _ uint32) { b.Credit(0, 1<<31-1) }},

		{"data past the window", either, func(b *proxytest.Peer, id uint32) {
			b.Headers(id, false, ok200()...)
			flood(b, 100, func(int) { b.Data(id, false, make([]byte, 16384)) })
		}},
		{"a stream window that overflows", streamOnly, func(b *proxytest.Peer, id uint32) { b.Credit(id, 1<<31-1) }},
		{"a WINDOW_UPDATE of 0", streamOnly, func(b *proxytest.Peer, id uint32) { b.Credit(id, 0) }},
		{"data before headers", either, func(b *proxytest.Peer, id uint32) { b.Data(id, false, []byte("x")) }},
		{"headers without :status", streamOnly, func(b *proxytest.Peer, id uint32) { b.Headers(id, false, f("x", "y")...) }},
		{"end without :status", streamOnly, func(b *proxytest.Peer, id uint32) { b.Headers(id, true, f("grpc-status", "0")...) }},
		{"an interim answer that ends", streamOnly, func(b *proxytest.Peer, id uint32) { b.Headers(id, true, f(":status", "103")...) }},
		{"two :status", streamOnly, func(b *proxytest.Peer, id uint32) { b.Headers(id, false, f(":status", "200", ":status", "200")...) }},
		{"a :status of words", streamOnly, func(b *proxytest.Peer, id uint32) { b.Headers(id, false, f(":status", "fine")...) }},
		{"an upper case name", streamOnly, func(b *proxytest.Peer, id uint32) { b.Headers(id, false, f(":status", "200", "X-Y", "z")...) }},
		{"CR in a value", streamOnly, func(b *proxytest.Peer, id uint32) { b.Headers(id, false, f(":status", "200", "x", "a\r\nb")...) }},
		{"connection: close", streamOnly, func(b *proxytest.Peer, id uint32) {
			b.Headers(id, false, f(":status", "200", "connection", "close")...)
		}},
		{"a request as the answer", streamOnly, func(b *proxytest.Peer, id uint32) { b.Headers(id, false, proxytest.Call("/x")...) }},
		{"trailers without END_STREAM", streamOnly, func(b *proxytest.Peer, id uint32) {
			b.Headers(id, false, ok200()...)
			b.Headers(id, false, f("grpc-status", "0")...)
		}},
		{":status in the trailers", streamOnly, func(b *proxytest.Peer, id uint32) {
			b.Headers(id, false, ok200()...)
			b.Headers(id, true, f(":status", "200", "grpc-status", "0")...)
		}},
		{"headers over the bound", streamOnly, func(b *proxytest.Peer, id uint32) {
			many := ok200()
			for i := range 20 {
				many = append(many, f(fmt.Sprintf("x-%d", i), strings.Repeat("y", 4000))...)
			}
			b.Headers(id, false, many...)
		}},
		{"a stream that depends on itself", either, func(b *proxytest.Peer, id uint32) { b.Priority(id, http2.PriorityParam{StreamDep: id}) }},
	}
	for _, tt := range tests {
		for _, with := range []string{"a call", "no call"} {
			t.Run(tt.name+" with "+with, func(t *testing.T) {
				w := newWitness()
				r := newRig(t, rigConfig{tcp: true, router: func(r *rig, s *relay.Stream) {
					if with == "no call" || s.Header().Get("x-second") != "" {
						s.Forward(r.backend, s.Header(), nil)
						return
					}
					s.Forward(r.backend, s.Header(), w)
				}})
				c := r.client(proxytest.PeerConfig{})
				id := c.Open(proxytest.Call(method), false)
				c.Data(id, false, []byte("x"))
				b := r.accept(proxytest.PeerConfig{Lenient: true, ManualWindow: true})
				grown := heapGrowth(func() {
					tt.do(b, b.Accept().ID)
					got := c.Response(id)
					if with == "a call" && got.Trailer("grpc-status") != "14" {
						t.Errorf("the client read %v, reset=%v %v", got.Blocks, got.Reset, got.Code)
					}
					if with == "no call" && !got.Reset {
						t.Errorf("the client read %v", got.Blocks)
					}
				})
				if grown > 4<<20 {
					t.Errorf("the heap grew by %d KiB", grown>>10)
				}
				if with == "a call" {
					if st := w.over(t); st.Err == nil || st.Client {
						t.Errorf("stats %+v", st)
					}
				}
				if tt.scope == connection {
					b.WaitClosed()
				}
				second := c.Open(proxytest.Call(method, "x-second", "1"), true)
				if tt.scope == streamOnly {
					in := b.Accept()
					b.Headers(in.ID, true, trailersOnly("0")...)
				} else {
					servedOnce(t, r, b)
				}
				if got := c.Response(second); got.Header("grpc-status") != "0" {
					t.Errorf("the next stream read %+v", got)
				}
			})
		}
	}
}

// servedOnce answers the next stream, which comes over the old connection or a
// new one.
func servedOnce(t *testing.T, r *rig, old *proxytest.Peer) {
	t.Helper()
	if !old.Closed() {
		old.WaitOpenedOrClosed(2)
	}
	if old.Opened() >= 2 {
		old.Headers(old.Nth(1), true, trailersOnly("0")...)
		return
	}
	b := r.accept(proxytest.PeerConfig{})
	b.Headers(b.Accept().ID, true, trailersOnly("0")...)
}

// An answer that ends without ever having begun is no answer.
func TestEndWithoutHeaders(t *testing.T) {
	for _, ended := range []bool{false, true} {
		t.Run(fmt.Sprintf("request ended=%v", ended), func(t *testing.T) {
			route, ws := watched()
			r := newRig(t, rigConfig{tcp: true, router: route})
			c := r.client(proxytest.PeerConfig{})
			id := c.Open(proxytest.Call(method), false)
			c.Data(id, ended, []byte("x"))
			b := r.accept(proxytest.PeerConfig{})
			b.Data(b.Accept().ID, true, []byte("y"))
			if got := c.Response(id); got.Header("grpc-status") != "14" || got.Bytes != 0 {
				t.Errorf("the client read %v, %d bytes", got.Blocks, got.Bytes)
			}
			w := <-ws
			w.over(t)
			if br := w.broke(t); br.Headers || br.Data {
				t.Errorf("break %+v", br)
			}
		})
	}
}

// A stream is sent again once; a backend that refuses it again ends it.
func TestRefusedTwice(t *testing.T) {
	route, ws := watched()
	r := newRig(t, rigConfig{tcp: true, router: route})
	l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{}, 'x')
	b.GoAway(0, http2.ErrCodeProtocol)
	b = r.accept(proxytest.PeerConfig{})
	in := b.Accept()
	b.Bytes(in.ID, 1)
	b.Reset(in.ID, http2.ErrCodeRefusedStream)
	if got := c.Response(l.cid); got.Header("grpc-status") != "14" {
		t.Errorf("the client read %v, reset=%v", got.Blocks, got.Reset)
	}
	w := <-ws
	if st := w.over(t); st.Err == nil {
		t.Errorf("stats %+v", st)
	}
	if br := w.broke(t); !br.Dialed || br.Headers || br.Data {
		t.Errorf("break %+v", br)
	}
	if len(r.dialed) != 0 {
		t.Error("it was sent a third time")
	}
}

// Frames for a stream that is over, at the backend, harm nobody.
func TestLateFramesOfABackend(t *testing.T) {
	r := newRig(t, rigConfig{tcp: true})
	l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{Lenient: true})
	c.Reset(l.cid, http2.ErrCodeCancel)
	b.Response(l.bid)
	b.Headers(l.bid, false, ok200()...)
	b.Data(l.bid, false, []byte("late"))
	b.Headers(l.bid, true, grpcOK()...)
	b.Credit(l.bid, 5)
	b.Reset(l.bid, http2.ErrCodeCancel)
	b.Barrier()
	l = l.next()
	l.done()
	if got := c.Response(l.cid); got.Trailer("grpc-status") != "0" {
		t.Errorf("the client read %+v", got)
	}
}

// Informational responses cost the backend nothing and must not cost the relay
// memory, nor keep the client waiting without end.
func TestEndlessInformationalResponses(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{Lenient: true})
		interim := func(n int) {
			for range n {
				b.Headers(l.bid, false, proxytest.Fields(":status", "103", "link", "x")...)
			}
		}
		interim(relay.MostInterims)
		l.done()
		if got := c.Response(l.cid); got.Trailer("grpc-status") != "0" {
			t.Errorf("the client read %+v", got)
		}
		l = l.next()
		interim(relay.MostInterims + 1)
		if got := c.Response(l.cid); got.Reset == (got.Trailer("grpc-status") != "") {
			t.Errorf("the client read %+v", got)
		}
		// What may have been on its way when the stream was reset is passed over.
		interim(relay.MostInterims + 2)
		b.Barrier()
		interim(1)
		if last := b.WaitGoAway(1); last.Code != http2.ErrCodeStreamClosed {
			t.Errorf("one block more: %v", last.Code)
		}
	})
	r := newRig(t, rigConfig{tcp: true})
	l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{Lenient: true})
	grown := heapGrowth(func() {
		if n := flood(b, 20_000, func(int) { b.Headers(l.bid, false, proxytest.Fields(":status", "103", "link", "x")...) }); n == 20_000 {
			b.WaitClosed()
		}
		if got := c.Response(l.cid); got.Reset == (got.Trailer("grpc-status") != "") {
			t.Errorf("the client read %+v", got)
		}
	})
	if grown > 1<<20 {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
}

// A backend whose answer ends while the client still sends: gRPC servers do
// that when they refuse. The client reads the answer whole.
func TestBackendAnswersEarly(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{Settings: window(1000), ManualWindow: true})
		c.Fill(l.cid, proxytest.Pattern(1, 100_000)) // more than the backend takes
		b.Bytes(l.bid, 1000)
		b.Headers(l.bid, true, trailersOnly("7")...)
		b.Reset(l.bid, http2.ErrCodeNo)
		got := c.WaitStream(l.cid, "answer", func(s *proxytest.Stream) bool { return len(s.Blocks) > 0 || s.Reset })
		if got.Header("grpc-status") != "7" {
			t.Errorf("the client read %v, reset=%v %v", got.Blocks, got.Reset, got.Code)
		}
		c.Barrier()
		if got := c.Stream(l.cid); got.Reset && got.Code != http2.ErrCodeNo {
			t.Errorf("reset with %v after the answer", got.Code)
		}
		l = l.next()
		l.done()
		c.Response(l.cid)
	})
}
