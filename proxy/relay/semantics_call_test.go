package relay_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// edited is a rig whose streams are edited by edit.
func edited(t *testing.T, cfg rigConfig, edit func(p []byte, end bool, e *relay.Edits) relay.Verdict) (*rig, chan *witness) {
	t.Helper()
	ws := make(chan *witness, 100)
	cfg.router = func(r *rig, s *relay.Stream) {
		w := newWitness()
		w.edit = edit
		ws <- w
		s.Forward(r.backend, s.Header(), w)
	}
	return newRig(t, cfg), ws
}

// The first byte of a stream leaves only after the first Pass.
func TestNothingLeavesBeforePass(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		seen := 0
		r, ws := edited(t, cfg, func(p []byte, _ bool, e *relay.Edits) relay.Verdict {
			e.Keep(len(p))
			if seen += len(p); seen < 1000 {
				return relay.Wait
			}
			return relay.Pass
		})
		body := proxytest.Pattern(1, 1500)
		c := r.client(proxytest.PeerConfig{})
		id := c.Open(proxytest.Call(method), false)
		for i := range 9 {
			c.Data(id, false, body[i*100:i*100+100])
		}
		c.Barrier()
		if len(r.dialed) != 0 {
			t.Fatal("the backend was dialed before the first Pass")
		}
		c.Data(id, true, body[900:])
		b := r.accept(proxytest.PeerConfig{})
		in := b.Accept()
		if in = b.Response(in.ID); !bytes.Equal(in.Data, body) || !in.Ended {
			t.Errorf("the backend read %d bytes", in.Bytes)
		}
		b.Headers(in.ID, true, trailersOnly("0")...)
		c.Response(id)
		if st := (<-ws).over(t); st.In != 1500 || st.Out != 0 || st.Status != "0" || st.Reset || st.Client || st.Err != nil {
			t.Errorf("stats %+v", st)
		}
	})
}

// Insertions at every place: before, between, behind, at frame edges, of any
// size, and with frames that are full already.
func TestInsertions(t *testing.T) {
	small, large := []byte("<inserted>"), proxytest.Pattern(99, 70_000)
	tests := []struct {
		name string
		at   []int // positions in the body, in order
		what []byte
	}{
		{"before everything", []int{0}, small},
		{"behind everything", []int{40_000}, small},
		{"inside", []int{1, 2, 3, 16383, 16384, 16385, 39_999}, small},
		{"at each frame's edge", []int{0, 16384, 32768, 40_000}, small},
		{"large", []int{0, 20_000, 40_000}, large},
		{"none", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wires(t, func(t *testing.T, cfg rigConfig) {
				body := proxytest.Pattern(2, 40_000)
				var want []byte
				last := 0
				for _, at := range tt.at {
					want = append(append(want, body[last:at]...), tt.what...)
					last = at
				}
				want = append(want, body[last:]...)
				for _, frame := range []int{16384, 1000, 40_000} {
					for _, win := range []uint32{65535, 501} {
						if win == 501 && len(want) > 41_000 {
							continue
						}
						r, _ := edited(t, cfg, inserter(tt.at, tt.what))
						c := r.client(proxytest.PeerConfig{})
						id := c.Open(proxytest.Call(method), false)
						for at := 0; at < len(body); at += frame {
							c.Send(id, body[at:min(at+frame, len(body))], at+frame >= len(body))
						}
						b := r.accept(proxytest.PeerConfig{Settings: window(win)})
						in := b.Accept()
						if in = b.Response(in.ID); !bytes.Equal(in.Data, want) {
							t.Errorf("frames of %d, window %d: the backend read %d bytes of %d, or wrong ones", frame, win, in.Bytes, len(want))
						}
						b.Headers(in.ID, true, trailersOnly("0")...)
						c.Response(id)
					}
				}
			})
		})
	}
}

// inserter puts what at these places of the body.
func inserter(places []int, what []byte) func(p []byte, end bool, e *relay.Edits) relay.Verdict {
	offset, next := 0, 0
	return func(p []byte, end bool, e *relay.Edits) relay.Verdict {
		done := 0
		for next < len(places) && (places[next] < offset+len(p) || end) {
			e.Keep(places[next] - offset - done)
			done = places[next] - offset
			e.Insert(what)
			next++
		}
		e.Keep(len(p) - done)
		offset += len(p)
		return relay.Pass
	}
}

// Edit may leave bytes out and change them in place.
func TestEditDropsAndChanges(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		// Odd bytes of the stream go; even ones are inverted.
		at := 0
		r, _ := edited(t, cfg, func(p []byte, _ bool, e *relay.Edits) relay.Verdict {
			for i := range p {
				if at%2 == 0 {
					p[i] = ^p[i]
				}
				at++
			}
			e.Keep(len(p))
			return relay.Pass
		})
		body := proxytest.Pattern(6, 100_001)
		c := r.client(proxytest.PeerConfig{})
		id := c.Open(proxytest.Call(method), false)
		c.Send(id, body, true)
		b := r.accept(proxytest.PeerConfig{})
		want := bytes.Clone(body)
		for i := 0; i < len(want); i += 2 {
			want[i] = ^want[i]
		}
		in := b.Accept()
		if in = b.Response(in.ID); !bytes.Equal(in.Data, want) {
			t.Error("the backend read other bytes")
		}
		b.Headers(in.ID, true, trailersOnly("0")...)
		c.Response(id)
	})
}

// Hold stops the stream until Resume, which any goroutine may call; what was not
// accounted for comes again, the rest not.
func TestHoldAndResume(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		streams := make(chan *relay.Stream, 1)
		type piece struct {
			p   string
			end bool
		}
		var seen []piece
		holds := 0
		w := newWitness()
		w.edit = func(p []byte, end bool, e *relay.Edits) relay.Verdict {
			seen = append(seen, piece{string(p), end})
			if holds < 2 {
				holds++
				e.Keep(3)
				e.Insert([]byte("|"))
				return relay.Hold
			}
			e.Keep(len(p))
			return relay.Pass
		}
		cfg.router = func(r *rig, s *relay.Stream) {
			s.Forward(r.backend, s.Header(), w)
			streams <- s
		}
		r := newRig(t, cfg)
		c := r.client(proxytest.PeerConfig{})
		id := c.Open(proxytest.Call(method), false)
		c.Data(id, false, []byte("abcdefgh"))
		c.Data(id, true, []byte("ij"))
		c.Barrier()
		s := <-streams
		s.Resume()
		c.Barrier()
		if len(r.dialed) != 0 {
			t.Fatal("a held stream reached the backend")
		}
		s.Resume()
		s.Resume() // of a stream that is not held: nothing
		b := r.accept(proxytest.PeerConfig{})
		in := b.Accept()
		if in = b.Response(in.ID); string(in.Data) != "abc|def|ghij" || !in.Ended {
			t.Errorf("the backend read %q", in.Data)
		}
		b.Headers(in.ID, true, trailersOnly("0")...)
		c.Response(id)
		if st := w.over(t); st.In != 10 {
			t.Errorf("stats %+v", st)
		}
		if want := []piece{{"abcdefgh", false}, {"defgh", false}, {"gh", false}, {"ij", true}}; fmt.Sprint(seen) != fmt.Sprint(want) {
			t.Errorf("Edit saw %v, want %v", seen, want)
		}
	})
}

// A client that fills its window while its call only waits is ended: what is
// held is bounded.
func TestWaitForEverIsBounded(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		r, ws := edited(t, cfg, func(p []byte, _ bool, e *relay.Edits) relay.Verdict {
			e.Keep(len(p))
			return relay.Wait
		})
		c := r.client(proxytest.PeerConfig{})
		id := c.Open(proxytest.Call(method), false)
		sent := c.Fill(id, proxytest.Pattern(1, 4<<20))
		if limit := relay.DefaultLimits().StreamWindow; sent > limit {
			t.Errorf("%d bytes could be sent, the window is %d", sent, limit)
		}
		c.Barrier()
		if s := c.Stream(id); !s.Over() {
			c.Data(id, true, nil)
			c.Response(id)
		}
		(<-ws).over(t)
		if len(r.dialed) != 0 {
			t.Error("the backend was dialed")
		}
	})
}

// Cut from Edit: the backend's message stays incomplete, the client reads the reply.
func TestCutFromEdit(t *testing.T) {
	for _, answered := range []bool{false, true} {
		for _, first := range []int{0, 500} {
			t.Run(fmt.Sprintf("answered=%v passed=%d", answered, first), func(t *testing.T) {
				wires(t, func(t *testing.T, cfg rigConfig) {
					seen := 0
					r, ws := edited(t, cfg, func(p []byte, _ bool, e *relay.Edits) relay.Verdict {
						if seen += len(p); seen <= first {
							e.Keep(len(p))
							return relay.Pass
						}
						e.Reply = unavailable("cut")
						return relay.Cut
					})
					c := r.client(proxytest.PeerConfig{})
					id := c.Open(proxytest.Call(method), false)
					var b *proxytest.Peer
					var bid uint32
					if first > 0 {
						c.Data(id, false, proxytest.Pattern(1, first))
						b = r.accept(proxytest.PeerConfig{})
						bid = b.Accept().ID
						if answered {
							b.Headers(bid, false, ok200()...)
							c.Headers1(id)
						}
					}
					c.Data(id, true, []byte("the rest"))
					got := c.Response(id)
					if got.Trailer("grpc-status") != "14" || got.Trailer("grpc-message") != "cut" {
						t.Errorf("the client read %v", got.Blocks)
					}
					if first > 0 {
						in := b.Response(bid)
						if !in.Reset || in.Ended || in.Bytes != first {
							t.Errorf("the backend read %d bytes, ended=%v reset=%v", in.Bytes, in.Ended, in.Reset)
						}
					} else if len(r.dialed) != 0 {
						t.Error("the backend was dialed")
					}
					if st := (<-ws).over(t); st.Status != "14" {
						t.Errorf("stats %+v", st)
					}
				})
			})
		}
	}
}

// Cut from another goroutine at any time; after the end it does nothing.
func TestCutFromOutside(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		streams := make(chan *relay.Stream, 10)
		ws := make(chan *witness, 10)
		cfg.router = func(r *rig, s *relay.Stream) {
			w := newWitness()
			ws <- w
			s.Forward(r.backend, s.Header(), w)
			streams <- s
		}
		r := newRig(t, cfg)
		l, c, b := r.open(proxytest.PeerConfig{Settings: window(10), ManualWindow: true}, proxytest.PeerConfig{}, 'x')
		l.answer()
		b.Send(l.bid, proxytest.Pattern(1, 100_000), false)
		c.Bytes(l.cid, 10) // the rest is queued in the relay
		s := <-streams
		s.Cut(unavailable("closed"))
		got := c.Response(l.cid)
		if got.Trailer("grpc-message") != "closed" || got.Bytes != 10 {
			t.Errorf("the client read %d bytes, %v", got.Bytes, got.Blocks)
		}
		if in := b.Response(l.bid); !in.Reset {
			t.Errorf("the backend's stream was not reset: %+v", in)
		}
		<-s.Gone()
		if st := (<-ws).over(t); st.Status != "14" || st.Client {
			t.Errorf("stats %+v", st)
		}
		s.Cut(unavailable("again"))
		s.Resume()
		s.Refuse(unavailable("again"))
		s.Forward(r.backend, s.Header(), nil)

		// Before any answer the reply is one block.
		l = &link{c: c, b: b, cid: c.Open(proxytest.Call(method), false)}
		c.Data(l.cid, false, []byte("x"))
		l.bid = b.Accept().ID
		(<-streams).Cut(unavailable("early"))
		if got := c.Response(l.cid); len(got.Blocks) != 1 || got.Header("grpc-message") != "early" {
			t.Errorf("the client read %v", got.Blocks)
		}
		b.Response(l.bid)
		(<-ws).over(t)
	})
}

// A router may answer later, from another goroutine; the body waits.
func TestRouterAnswersLater(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		streams := make(chan *relay.Stream, 10)
		cfg.router = func(_ *rig, s *relay.Stream) { streams <- s }
		r := newRig(t, cfg)
		c := r.client(proxytest.PeerConfig{})
		body := proxytest.Pattern(1, 200_000)
		id := c.Open(proxytest.Call(method), false)
		c.Send(id, body, true)
		c.Barrier()
		s := <-streams
		go s.Forward(r.backend, s.Header(), newWitness())
		b := r.accept(proxytest.PeerConfig{})
		in := b.Accept()
		if in = b.Response(in.ID); !bytes.Equal(in.Data, body) {
			t.Errorf("the backend read %d bytes", in.Bytes)
		}
		b.Headers(in.ID, true, trailersOnly("0")...)
		c.Response(id)

		id = c.Open(proxytest.Call(method), true)
		s = <-streams
		go s.Refuse(unavailable("later"))
		if got := c.Response(id); got.Header("grpc-message") != "later" {
			t.Errorf("the client read %v", got.Blocks)
		}
	})
}

// Gone tells a router that waits that nobody waits for it any more.
func TestGone(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		streams := make(chan *relay.Stream, 10)
		cfg.router = func(_ *rig, s *relay.Stream) { streams <- s }
		r := newRig(t, cfg)
		c := r.client(proxytest.PeerConfig{})
		id := c.Open(proxytest.Call(method), false)
		s := <-streams
		select {
		case <-s.Gone():
			t.Fatal("gone while the client waits")
		default:
		}
		c.Reset(id, http2.ErrCodeCancel)
		<-s.Gone()
		w := newWitness()
		s.Forward(r.backend, s.Header(), w)
		if st := w.over(t); !st.Client || !st.Reset {
			t.Errorf("stats %+v", st)
		}
		c.Open(proxytest.Call(method), false)
		s = <-streams
		c.Close()
		<-s.Gone()
		if len(r.dialed) != 0 {
			t.Error("the backend was dialed")
		}
	})
}

// A refusal while the client still sends: it reads the reply and is told to
// stop; the connection goes on.
func TestRefuseWhileSending(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		n := 0
		cfg.router = func(r *rig, s *relay.Stream) {
			if n++; n <= 3 {
				s.Refuse(unavailable("no"))
				return
			}
			s.Forward(r.backend, s.Header(), nil)
		}
		r := newRig(t, cfg)
		c := r.client(proxytest.PeerConfig{})
		for range 3 {
			id := c.Open(proxytest.Call(method), false)
			c.Fill(id, proxytest.Pattern(1, 200_000))
			got := c.WaitStream(id, "answer", func(s *proxytest.Stream) bool { return s.Ended || s.Reset })
			if got.Header("grpc-message") != "no" {
				t.Errorf("the client read %v, reset=%v", got.Blocks, got.Reset)
			}
			c.Data(id, true, []byte("more"))
			c.Barrier()
			if got := c.Stream(id); got.Reset && got.Code != http2.ErrCodeNo {
				t.Errorf("reset with %v", got.Code)
			}
		}
		id := c.Open(proxytest.Call(method), true)
		b := r.accept(proxytest.PeerConfig{})
		b.Headers(b.Accept().ID, true, trailersOnly("0")...)
		c.Response(id)
	})
}

// Every form of a Reply.
func TestReplyForms(t *testing.T) {
	tests := []struct {
		name   string
		reply  *relay.Reply
		status string
		blocks int
		body   string
		reset  http2.ErrCode
	}{
		{"trailers only", unavailable("x"), "200", 1, "", 0},
		{"plain with body", &relay.Reply{Status: "404", Header: proxytest.Fields("content-type", "text/plain"), Body: []byte("no such page\n")}, "404", 1, "no such page\n", 0},
		{"body and trailers", &relay.Reply{Status: "200", Body: []byte("b"), Trailer: grpcOK()}, "200", 2, "b", 0},
		{"long body", &relay.Reply{Status: "200", Body: proxytest.Pattern(1, 100_000)}, "200", 1, string(proxytest.Pattern(1, 100_000)), 0},
		{"status alone", &relay.Reply{Status: "415"}, "415", 1, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wires(t, func(t *testing.T, cfg rigConfig) {
				cfg.router = func(_ *rig, s *relay.Stream) { s.Refuse(tt.reply) }
				c := newRig(t, cfg).client(proxytest.PeerConfig{Settings: window(9000)})
				got := c.Response(c.Open(proxytest.Call(method), true))
				if got.Header(":status") != tt.status || len(got.Blocks) != tt.blocks || string(got.Data) != tt.body || !got.Ended {
					t.Errorf("the client read %v, %d bytes, ended=%v", got.Blocks, got.Bytes, got.Ended)
				}
			})
		})
	}
}

func TestRefuseByReset(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		cfg.router = func(_ *rig, s *relay.Stream) { s.Refuse(&relay.Reply{Reset: uint32(http2.ErrCodeHTTP11Required)}) }
		c := newRig(t, cfg).client(proxytest.PeerConfig{})
		if got := c.Response(c.Open(proxytest.Call(method), true)); !got.Reset || got.Code != http2.ErrCodeHTTP11Required {
			t.Errorf("the client read %+v", got)
		}
	})
}

// MaxMessage bounds what a backend may declare; nothing of such a message is held.
func TestMessageBound(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		cfg.limits.MaxMessage = 1000
		route, ws := watched()
		cfg.router = route
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{}, 'x')
		l.answer()
		good := proxytest.Message(proxytest.Pattern(1, 1000))
		b.Send(l.bid, good, false)
		b.Send(l.bid, []byte{0, 0, 0, 3, 0xe9, 'x'}, false)
		got := c.Response(l.cid)
		w := <-ws
		w.over(t)
		if br := w.broke(t); br.Err == nil || got.Trailer("grpc-status") != "14" || !bytes.HasPrefix(got.Data, good) {
			t.Errorf("break %+v; the client read %d bytes, %v", br, got.Bytes, got.Blocks)
		}
		if in := b.Response(l.bid); !in.Reset {
			t.Error("the backend's stream goes on")
		}
	})
}
