package relay_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// withSpark is a rig whose backend is a fake Spark Connect server, and a
// grpc-go client of the relay.
func withSpark(t *testing.T, cfg rigConfig) (*proxytest.Spark, *proxytest.Caller) {
	t.Helper()
	spark := proxytest.StartSpark(t, proxytest.SparkConfig{})
	cfg.dial = spark.Dial
	if cfg.tcp {
		cfg.dial = spark.DialTCP
	}
	r := newRig(t, cfg)
	return spark, proxytest.NewCaller(t, r.dial)
}

func TestCallShapes(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		spark, c := withSpark(t, cfg)
		msgs := [][]byte{proxytest.Pattern(1, 10), {}, proxytest.Pattern(2, 100_000), proxytest.Pattern(3, 1)}
		tests := []struct {
			name   string
			script proxytest.Script
			send   [][]byte
			want   [][]byte
		}{
			{"unary", proxytest.Reply([]byte("answer")), msgs[:1], [][]byte{[]byte("answer")}},
			{"client stream", proxytest.Reply([]byte("answer")), msgs, [][]byte{[]byte("answer")}},
			{"server stream", proxytest.Batches(3, 70_000), msgs[:1], [][]byte{
				proxytest.Pattern(0, 70_000), proxytest.Pattern(1, 70_000), proxytest.Pattern(2, 70_000),
			}},
			{"bidi", proxytest.Echo(), msgs, msgs},
			{"empty request", proxytest.Reply([]byte("answer")), nil, [][]byte{[]byte("answer")}},
			{"empty answer", proxytest.Reply(), msgs[:1], nil},
			{"one large message each way", proxytest.Echo(), [][]byte{proxytest.Pattern(9, 8<<20)}, [][]byte{proxytest.Pattern(9, 8<<20)}},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				spark.Script("", tt.script)
				before := spark.Calls("")
				got, err := c.Collect(t.Context(), method, tt.send...)
				if err != nil || !sameMessages(got, tt.want) {
					t.Errorf("got %d messages, %v", len(got), err)
				}
				rs := spark.Recorded("")
				if len(rs) != before+1 || !sameMessages(rs[before].Messages(), tt.send) || !rs[before].HalfClosed() {
					t.Errorf("the backend got %d calls and other messages than were sent", len(rs)-before)
				}
			})
		}
	})
}

func sameMessages(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// Each message waits for the echo of the one before: nothing may be held back.
func TestThreeHundredEchoes(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		spark, c := withSpark(t, cfg)
		spark.Script("", proxytest.Echo())
		s, err := c.Stream(t.Context(), method)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 300 {
			m := proxytest.Pattern(i, i*37%5000)
			if err := s.Send(m); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Recv(); err != nil || !bytes.Equal(got, m) {
				t.Fatalf("echo %d: %d bytes, %v", i, len(got), err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if rest, err := s.Rest(); err != nil || len(rest) != 0 {
			t.Fatalf("%d more, %v", len(rest), err)
		}
	})
}

func TestTwoHundredStreamsAtOnce(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		cfg.limits.Streams = 200
		spark, c := withSpark(t, cfg)
		spark.Script("", proxytest.Echo())
		var all sync.WaitGroup
		errs := make(chan error, 200)
		for i := range 200 {
			all.Go(func() {
				var msgs [][]byte
				for k := range 5 {
					msgs = append(msgs, proxytest.Pattern(i*10+k, 1+(i*7919+k*104729)%30_000))
				}
				got, err := c.Collect(t.Context(), fmt.Sprintf("/test/%d", i), msgs...)
				if err != nil || !sameMessages(got, msgs) {
					errs <- fmt.Errorf("stream %d: %d messages, %w", i, len(got), err)
				}
			})
		}
		all.Wait()
		close(errs)
		for err := range errs {
			t.Error(err)
		}
	})
}

func TestCancelByTheClient(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		spark, c := withSpark(t, cfg)
		spark.Script("", proxytest.Hang())
		ctx, cancel := context.WithCancel(t.Context())
		s, err := c.Stream(ctx, method)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Header(); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := spark.Recorded("")[0].Wait(t); status.Code(err) != codes.Canceled {
			t.Errorf("the backend's call ended with %v", err)
		}
	})
}

// A reset goes through with its code, in both directions.
func TestResetPassesItsCode(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeCancel, http2.ErrCodeInternal, http2.ErrCodeNo, 0xdead} {
		t.Run("client "+code.String(), func(t *testing.T) {
			wires(t, func(t *testing.T, cfg rigConfig) {
				l, _, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
				l.c.Reset(l.cid, code)
				if got := b.Response(l.bid); !got.Reset {
					t.Errorf("the backend's stream was not reset: %+v", got)
				} else if got.Code != code && got.Code != http2.ErrCodeCancel {
					t.Errorf("the backend read %v", got.Code)
				}
			})
		})
	}
	for _, code := range []http2.ErrCode{http2.ErrCodeCancel, http2.ErrCodeInternal, http2.ErrCodeEnhanceYourCalm} {
		t.Run("backend "+code.String(), func(t *testing.T) {
			wires(t, func(t *testing.T, cfg rigConfig) {
				route, ws := watched()
				cfg.router = route
				l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{}, 'x')
				l.answer()
				b.Send(l.bid, []byte("part"), false)
				b.Reset(l.bid, code)
				got := c.Response(l.cid)
				st := (<-ws).over(t)
				if string(got.Data) != "part" || !got.Reset || got.Code != code || st.Err == nil || !st.Reset || st.Client {
					t.Errorf("the client read %q, %v; stats %+v", got.Data, got.Code, st)
				}
			})
		})
	}
}

func TestDeadlinePasses(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
		l.done()
		c.Response(l.cid)
		id := c.Open(proxytest.Call(method, "grpc-timeout", "12345678m"), true)
		in := b.Accept()
		if got := in.Header("grpc-timeout"); got != "12345678m" {
			t.Errorf("grpc-timeout %q", got)
		}
		b.Headers(in.ID, true, trailersOnly("4")...)
		if got := c.Response(id); got.Header("grpc-status") != "4" {
			t.Errorf("the client read %v", got.Blocks)
		}
	})
}

// A real client's deadline cancels a real server's call.
func TestDeadlineEndsTheCall(t *testing.T) {
	spark, c := withSpark(t, rigConfig{})
	spark.Script("", proxytest.Reply())
	if _, err := c.Collect(t.Context(), method); err != nil { // all connections stand then
		t.Fatal(err)
	}
	spark.Script("", proxytest.Hang())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := c.Collect(ctx, method); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%v", err)
	}
	r := spark.WaitCalls(t, "", 2)[1]
	if r.Deadline.IsZero() {
		t.Error("the backend saw no deadline")
	}
	if err := r.Wait(t); err == nil {
		t.Error("the backend's call ended well")
	}
}

func TestStatusWithDetails(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		spark, c := withSpark(t, cfg)
		want := proxytest.NotFound("some operation: 100% \u00e4\u00f6 text\n")
		for _, script := range []proxytest.Script{proxytest.Fail(want), proxytest.FailAfter(3, 1000, want)} {
			spark.Script("", script)
			_, err := c.Collect(t.Context(), method, []byte("x"))
			got := status.Convert(err)
			if got.Code() != want.Code() || got.Message() != want.Message() || len(got.Details()) != 1 {
				t.Errorf("got %v with %d details", err, len(got.Details()))
			}
		}
	})
}

func TestGzipPassesUntouched(t *testing.T) {
	spark, c := withSpark(t, rigConfig{})
	spark.Script("", proxytest.Gzip(proxytest.Batches(1, 50_000)))
	var header metadata.MD
	got, err := c.Unary(t.Context(), method, []byte("plan"), grpc.UseCompressor(gzip.Name), grpc.Header(&header))
	if err != nil || !bytes.Equal(got, proxytest.Pattern(0, 50_000)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if e := spark.Recorded("")[0].Metadata.Get("grpc-encoding"); len(e) != 0 && e[0] != "gzip" {
		t.Errorf("grpc-encoding %v", e)
	}
}

// The half-close of one side leaves the other open.
func TestHalfClose(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		r := newRig(t, cfg)
		l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
		c.Send(l.cid, []byte("all"), true)
		in := b.WaitStream(l.bid, "end of the request", func(s *proxytest.Stream) bool { return s.Ended })
		if string(in.Data) != "all" {
			t.Errorf("request %q", in.Data)
		}
		l.answer()
		for i := range 3 {
			b.Send(l.bid, []byte{byte(i)}, false)
			c.Bytes(l.cid, i+1)
		}
		b.Headers(l.bid, true, grpcOK()...)
		if got := c.Response(l.cid); !bytes.Equal(got.Data, []byte{0, 1, 2}) || got.Reset {
			t.Errorf("response %+v", got)
		}

		// The response may end first; the request then goes on until its end.
		l = l.next()
		b.Headers(l.bid, true, trailersOnly("0")...)
		c.Response(l.cid)
		c.Send(l.cid, []byte("late"), true)
		if in := b.Response(l.bid); string(in.Data) != "late" || !in.Ended {
			t.Errorf("request %+v", in)
		}
	})
}

// END_STREAM comes in every form that RFC 9113 has.
func TestEndStreamForms(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
		l.done()
		c.Response(l.cid)
		ends := []struct {
			name string
			send func(p *proxytest.Peer, id uint32)
			want string
		}{
			{"on data", func(p *proxytest.Peer, id uint32) { p.Data(id, true, []byte("abc")) }, "abc"},
			{"on empty data", func(p *proxytest.Peer, id uint32) { p.Data(id, false, []byte("abc")); p.Data(id, true, nil) }, "abc"},
			{"on padding alone", func(p *proxytest.Peer, id uint32) {
				p.Data(id, false, []byte("abc"))
				p.Padded(id, true, nil, make([]byte, 200))
			}, "abc"},
			{"on padded data", func(p *proxytest.Peer, id uint32) { p.Padded(id, true, []byte("abc"), make([]byte, 9)) }, "abc"},
			{"on padded data with no padding", func(p *proxytest.Peer, id uint32) { p.Padded(id, true, []byte("abc"), []byte{}) }, "abc"},
			{"empty data between", func(p *proxytest.Peer, id uint32) {
				p.Data(id, false, nil)
				p.Data(id, false, []byte("a"))
				p.Data(id, false, nil)
				p.Data(id, true, []byte("bc"))
			}, "abc"},
			{"at once", func(p *proxytest.Peer, id uint32) { p.Data(id, true, nil) }, ""},
			{"on trailers", func(p *proxytest.Peer, id uint32) {
				p.Data(id, false, []byte("abc"))
				p.Headers(id, true, proxytest.Fields("x-trailer", "1")...)
			}, "abc"},
		}
		for _, tt := range ends {
			t.Run(tt.name, func(t *testing.T) {
				id := c.Open(proxytest.Call(method), false)
				bid := b.Accept().ID
				tt.send(c, id)
				if in := b.Response(bid); string(in.Data) != tt.want || !in.Ended {
					t.Errorf("the backend read %q, ended=%v", in.Data, in.Ended)
				}
				b.Headers(bid, false, ok200()...)
				tt.send(b, bid)
				got := c.Response(id)
				if string(got.Data) != tt.want || !got.Ended {
					t.Errorf("the client read %q, ended=%v", got.Data, got.Ended)
				}
				if tt.name == "on trailers" && got.Trailer("x-trailer") != "1" {
					t.Errorf("trailers %v", got.Blocks)
				}
			})
		}
		t.Run("on headers", func(t *testing.T) {
			id := c.Open(proxytest.Call(method), true)
			in := b.Accept()
			if in = b.Response(in.ID); !in.Ended || in.Bytes != 0 {
				t.Errorf("the backend read %+v", in)
			}
			b.Headers(in.ID, true, trailersOnly("5")...)
			if got := c.Response(id); len(got.Blocks) != 1 || got.Header("grpc-status") != "5" || got.Frames != 0 {
				t.Errorf("the client read %+v", got)
			}
		})
	})
}

// What a peer may send and the relay must ignore.
func TestIgnoredFrames(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
		for _, p := range []*proxytest.Peer{c, b} {
			id := l.cid
			if p == b {
				id = l.bid
			}
			for _, typ := range []http2.FrameType{0x0a, 0x0b, 0x0c, 0x0f, 0x10, 0x7f, 0xff} {
				p.Frame(typ, 0xff, 0, []byte("connection"))
				p.Frame(typ, 0xff, id, []byte("stream"))
				p.Frame(typ, 0, id+1000, nil)
			}
			p.Settings(http2.Setting{ID: 0x4242, Val: 7}, http2.Setting{ID: 0xffff, Val: 1})
			p.Priority(id, http2.PriorityParam{StreamDep: 0, Weight: 7, Exclusive: true})
			p.Priority(id+100, http2.PriorityParam{StreamDep: id})
			p.Barrier()
		}
		l.answer()
		l.done()
		if got := c.Response(l.cid); got.Trailer("grpc-status") != "0" {
			t.Errorf("the client read %+v", got)
		}
	})
}

func TestPingIsEchoed(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
		for range 50 { // a keepalive every few milliseconds, and BDP probes
			c.Barrier()
			b.Barrier()
		}
		l.done()
		c.Response(l.cid)
		if n := len(c.GoAways()) + len(b.GoAways()); n > 0 {
			t.Errorf("%d GOAWAY frames", n)
		}
	})
}

// Keepalive pings of a client that has no stream open are no offence.
func TestIdlePingsAreTolerated(t *testing.T) {
	c := newRig(t, rigConfig{}).client(proxytest.PeerConfig{})
	for range relay.DefaultLimits().Pings {
		c.Barrier()
	}
	if c.Closed() || len(c.GoAways()) > 0 {
		t.Error("the relay closed a connection for its pings")
	}
}
