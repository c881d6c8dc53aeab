package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// bystander is another client that must not notice an attack.
type bystander struct {
	t *testing.T
	r *rig
	c *proxytest.Peer
}

func newBystander(t *testing.T, r *rig) *bystander {
	t.Helper()
	return &bystander{t, r, r.client(proxytest.PeerConfig{})}
}

// served makes a call that the router refuses: the answer shows that the relay
// still serves.
func (b *bystander) served() {
	b.t.Helper()
	got := b.c.Response(b.c.Open(proxytest.Call("/refused"), true))
	if got.Header("grpc-message") != "refused" {
		b.t.Errorf("another client read %+v", got)
	}
}

// refusing answers calls of /refused itself and forwards the others.
func refusing(r *rig, s *relay.Stream) {
	if s.Header().Get(":path") == "/refused" {
		s.Refuse(unavailable("refused"))
		return
	}
	s.Forward(r.backend, s.Header(), nil)
}

// flood sends until the connection breaks, at most n times, and returns how often.
func flood(p *proxytest.Peer, n int, send func(i int)) int {
	for i := range n {
		if p.Err() != nil || p.Closed() {
			return i
		}
		send(i)
	}
	return n
}

// Every frame that costs the relay something and the client nothing is counted,
// and the connection of who sends too many ends. The number of frames is well over
// ten seconds' worth plus what fits into the buffers between.
func TestFloodsEndTheConnection(t *testing.T) {
	limits := relay.DefaultLimits()
	const plenty = 200_000
	open := proxytest.Call(method)
	tests := []struct {
		name  string
		limit int // per second
		send  func(c *proxytest.Peer, id uint32, i int)
	}{
		{"PING", limits.Pings, func(c *proxytest.Peer, _ uint32, _ int) { c.Ping([8]byte{1}) }},
		{"SETTINGS", limits.Settings, func(c *proxytest.Peer, _ uint32, _ int) { c.Settings() }},
		{"SETTINGS that change the window", limits.Settings, func(c *proxytest.Peer, _ uint32, i int) {
			c.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i % 1000)}) //nolint:gosec // small
		}},
		{"PRIORITY", limits.Priorities, func(c *proxytest.Peer, _ uint32, i int) {
			c.Priority(uint32(i)*2+1, http2.PriorityParam{Weight: 1}) //nolint:gosec // small
		}},
		{"WINDOW_UPDATE of the connection", limits.WindowUpdates, func(c *proxytest.Peer, _ uint32, _ int) { c.Credit(0, 1) }},
		{"WINDOW_UPDATE of a stream", limits.WindowUpdates, func(c *proxytest.Peer, id uint32, _ int) { c.Credit(id, 1) }},
		{"empty DATA", limits.EmptyFrames, func(c *proxytest.Peer, id uint32, _ int) { c.Data(id, false, nil) }},
		{"padded DATA without a byte", limits.EmptyFrames, func(c *proxytest.Peer, id uint32, _ int) {
			c.Frame(http2.FrameData, http2.FlagDataPadded, id, []byte{0})
		}},
		{"unknown frames", limits.UnknownFrames, func(c *proxytest.Peer, _ uint32, _ int) { c.Frame(0x42, 0, 0, nil) }},
		{"rapid reset", limits.Resets, func(c *proxytest.Peer, _ uint32, _ int) {
			c.Reset(c.Open(open, false), http2.ErrCodeCancel)
		}},
		{"RST_STREAM of a stream that is over", limits.Resets, func(c *proxytest.Peer, id uint32, _ int) { c.Reset(id, http2.ErrCodeCancel) }},
		{"streams over the bound", limits.Resets, func(c *proxytest.Peer, _ uint32, _ int) { c.Open(open, false) }},
		{"malformed requests", limits.Resets, func(c *proxytest.Peer, _ uint32, _ int) {
			c.Open(append(open[:len(open):len(open)], proxytest.Fields("Upper", "x")...), true)
		}},
		// Made you reset: the relay is led to reset the stream.
		{"WINDOW_UPDATE of 0", limits.Resets, func(c *proxytest.Peer, _ uint32, _ int) { c.Credit(c.Open(open, false), 0) }},
		{"a stream that depends on itself", limits.Resets, func(c *proxytest.Peer, _ uint32, _ int) {
			id := c.Open(open, false)
			c.Priority(id, http2.PriorityParam{StreamDep: id})
		}},
		{"DATA after END_STREAM", limits.Resets, func(c *proxytest.Peer, _ uint32, _ int) { c.Data(c.Open(open, true), false, []byte("x")) }},
		{"a window that overflows", limits.Resets, func(c *proxytest.Peer, _ uint32, _ int) { c.Credit(c.Open(open, false), 1<<31-1) }},
		{"trailers without END_STREAM", limits.Resets, func(c *proxytest.Peer, _ uint32, _ int) {
			c.Headers(c.Open(open, false), false, proxytest.Fields("x", "y")...)
		}},
		{"PRIORITY of a wrong length", limits.Resets, func(c *proxytest.Peer, _ uint32, _ int) {
			c.Frame(http2.FramePriority, 0, c.Open(open, false), []byte{1, 2, 3, 4})
		}},
		{"body longer than content-length", limits.Resets, func(c *proxytest.Peer, _ uint32, _ int) {
			c.Data(c.Open(append(open[:len(open):len(open)], proxytest.Fields("content-length", "1")...), false), true, []byte("xx"))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, rigConfig{tcp: true, router: refusing})
			other := newBystander(t, r)
			other.served()
			c := r.client(proxytest.PeerConfig{Lenient: true})
			id := c.Open(open, false)
			b := r.accept(proxytest.PeerConfig{Lenient: true, Discard: true})
			b.Accept()
			before := goroutines()
			n := flood(c, plenty, func(i int) { tt.send(c, id, i) })
			if code := c.WaitClosed(); code != int(http2.ErrCodeEnhanceYourCalm) {
				t.Errorf("closed with %d after %d", code, n)
			}
			if n == plenty {
				t.Errorf("%d were taken", n)
			}
			t.Logf("closed after %d, the limit is %d per second", n, tt.limit)
			b.WaitQuiet()
			if n := b.Peak(); n > limits.Streams {
				t.Errorf("%d streams live at the backend at once", n)
			}
			if g := goroutines(); g > before+10 {
				t.Errorf("%d goroutines, %d before", g, before)
			}
			other.served()
		})
	}
}

// Frames that need no answer and no memory may be ignored without a count, but
// must stay free: nothing may grow.
func TestHarmlessFloods(t *testing.T) {
	tests := []struct {
		name string
		send func(c *proxytest.Peer)
	}{
		{"PING acknowledgements", func(c *proxytest.Peer) { c.Frame(http2.FramePing, http2.FlagPingAck, 0, make([]byte, 8)) }},
		{"SETTINGS acknowledgements", func(c *proxytest.Peer) { c.Frame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil) }},
		{"GOAWAY", func(c *proxytest.Peer) { c.GoAway(0, http2.ErrCodeNo) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, rigConfig{tcp: true, router: refusing})
			other := newBystander(t, r)
			c := r.client(proxytest.PeerConfig{Lenient: true})
			c.Barrier()
			grown := heapGrowth(func() {
				flood(c, 50_000, func(int) { tt.send(c) })
				other.served()
			})
			if grown > 2<<20 {
				t.Errorf("the heap grew by %d KiB", grown>>10)
			}
		})
	}
}

// The bound on streams is kept to the number, and a stream's end makes room.
func TestStreamOverTheBound(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		r := newRig(t, cfg)
		c := r.client(proxytest.PeerConfig{})
		want := uint32(relay.DefaultLimits().Streams) //nolint:gosec // small
		if got := c.TheirSettings()[http2.SettingMaxConcurrentStreams]; got != want {
			t.Errorf("MAX_CONCURRENT_STREAMS is %d, want %d", got, want)
		}
		for range want {
			c.Open(proxytest.Call(method), false)
		}
		over := c.Open(proxytest.Call(method), false)
		if got := c.Response(over); !got.Reset || got.Code != http2.ErrCodeRefusedStream {
			t.Errorf("stream %d read %+v", over, got)
		}
		b := r.accept(proxytest.PeerConfig{})
		b.WaitOpened(int(want))
		first := b.Accept()
		b.Headers(first.ID, true, trailersOnly("0")...)
		c.Response(1)
		c.Data(1, true, nil)
		c.Open(proxytest.Call(method), false)
		b.WaitOpened(int(want) + 1)
	})
}

// Header blocks in too many frames, or of too many bytes, end the connection
// and never become a stream.
func TestHeaderFloods(t *testing.T) {
	tests := []struct {
		name string
		body []byte
	}{
		{"CONTINUATION of 8 KiB", literal("x", strings.Repeat("y", 8000))},
		{"CONTINUATION of one byte", []byte{0x82}},
		{"empty CONTINUATION", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, rigConfig{tcp: true, router: refusing})
			other := newBystander(t, r)
			c := r.client(proxytest.PeerConfig{Lenient: true})
			c.Barrier()
			c.Frame(http2.FrameHeaders, 0, 1, encodeFields(proxytest.Call("/refused")))
			grown := heapGrowth(func() {
				flood(c, 200_000, func(int) { c.Frame(http2.FrameContinuation, 0, 1, tt.body) })
			})
			c.WaitClosed()
			if s := c.Stream(1); len(s.Blocks) > 0 {
				t.Errorf("the stream was answered: %v", s.Blocks)
			}
			if grown > 1<<20 {
				t.Errorf("the heap grew by %d KiB", grown>>10)
			}
			other.served()
		})
	}
}

// literal is a field without indexing.
func literal(name, value string) []byte {
	b := append([]byte{0x00}, hpackString(name)...)
	return append(b, hpackString(value)...)
}

func hpackString(s string) []byte {
	if len(s) < 127 {
		return append([]byte{byte(len(s))}, s...)
	}
	b := []byte{127}
	n := len(s) - 127
	for ; n >= 128; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(append(b, byte(n)), s...)
}

// A header list over the bound refuses its stream; the connection, and the
// HPACK state of both ends, live on. A block that is out of all proportion ends it.
func TestHeaderListOverTheBound(t *testing.T) {
	limits := relay.DefaultLimits()
	wires(t, func(t *testing.T, cfg rigConfig) {
		cfg.router = refusing
		for _, size := range []int{limits.HeaderBytes - 1000, limits.HeaderBytes + 1, limits.HeaderBytes + 20_000} {
			t.Run(fmt.Sprint(size), func(t *testing.T) {
				c := newRig(t, cfg).client(proxytest.PeerConfig{})
				fields := proxytest.Call("/refused", "x-indexed", "one")
				for left := size; left > 0; left -= 8000 {
					fields = append(fields, proxytest.Fields("x-big", strings.Repeat("v", min(left, 8000)))...)
				}
				got := c.Response(c.Open(fields, true))
				fits := size < limits.HeaderBytes
				if served := got.Header("grpc-message") == "refused"; served != fits {
					t.Errorf("header list of %d bytes: the client read %v, reset=%v", size, got.Blocks, got.Reset)
				}
				if got.Header(":status") == "200" && !fits {
					t.Errorf("the client read %v", got.Blocks)
				}
				got = c.Response(c.Open(proxytest.Call("/refused", "x-indexed", "one"), true))
				if got.Header("grpc-message") != "refused" {
					t.Errorf("after it the client read %+v", got)
				}
			})
		}
		t.Run("far over", func(t *testing.T) {
			r := newRig(t, cfg)
			other := newBystander(t, r)
			c := r.client(proxytest.PeerConfig{Lenient: true})
			c.Open(append(proxytest.Call("/refused"), proxytest.Fields("x-big", strings.Repeat("v", 4<<20))...), true)
			c.WaitClosed()
			other.served()
		})
	})
}

// A small block that decodes to much: one large entry of the dynamic table,
// named again and again.
func TestHPACKBomb(t *testing.T) {
	r := newRig(t, rigConfig{tcp: true, router: refusing})
	other := newBystander(t, r)
	c := r.client(proxytest.PeerConfig{Lenient: true})
	entry := append([]byte{0x40}, append(hpackString("x"), hpackString(strings.Repeat("y", 4000))...)...)
	grown := heapGrowth(func() {
		sent := 0
		for range 50 {
			block := append(encodeFields(proxytest.Call("/refused")), entry...)
			block = append(block, strings.Repeat("\xbe", 16_000-len(block))...)
			id := c.NextID()
			c.Frame(http2.FrameHeaders, http2.FlagHeadersEndStream, id, block)
			for range 20 {
				c.Frame(http2.FrameContinuation, 0, id, []byte(strings.Repeat("\xbe", 16_000)))
			}
			c.Frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, id, nil)
			sent++
			if c.Err() != nil {
				break
			}
		}
		other.served()
		t.Logf("%d blocks of 64 MB decoded were sent", sent)
	})
	if grown > 4<<20 {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
	if s := c.Stream(1); s.Header("grpc-message") == "refused" {
		t.Error("the router saw the bomb")
	}
}

// Frames that lie about lengths end the connection, with the right code.
func TestMalformedFrames(t *testing.T) {
	frameSize, protocol, compression := http2.ErrCodeFrameSize, http2.ErrCodeProtocol, http2.ErrCodeCompression
	open := encodeFields(proxytest.Call(method))
	tests := []struct {
		name   string
		typ    http2.FrameType
		flags  http2.Flags
		stream uint32
		body   []byte
		want   http2.ErrCode
	}{
		{"DATA over the frame size", http2.FrameData, 0, 1, make([]byte, 16385), frameSize},
		{"HEADERS over the frame size", http2.FrameHeaders, 4, 3, make([]byte, 20_000), frameSize},
		{"unknown over the frame size", 0x77, 0, 0, make([]byte, 16385), frameSize},
		{"SETTINGS not in sixes", http2.FrameSettings, 0, 0, make([]byte, 7), frameSize},
		{"SETTINGS acknowledgement with a body", http2.FrameSettings, 1, 0, make([]byte, 6), frameSize},
		{"SETTINGS on a stream", http2.FrameSettings, 0, 1, nil, protocol},
		{"ENABLE_PUSH of 2", http2.FrameSettings, 0, 0, []byte{0, 2, 0, 0, 0, 2}, protocol},
		{"MAX_FRAME_SIZE of 0", http2.FrameSettings, 0, 0, []byte{0, 5, 0, 0, 0, 0}, protocol},
		{"MAX_FRAME_SIZE of 2^24", http2.FrameSettings, 0, 0, []byte{0, 5, 1, 0, 0, 0}, protocol},
		{"INITIAL_WINDOW_SIZE of 2^31", http2.FrameSettings, 0, 0, []byte{0, 4, 0x80, 0, 0, 0}, http2.ErrCodeFlowControl},
		{"PING of 7", http2.FramePing, 0, 0, make([]byte, 7), frameSize},
		{"PING of 9", http2.FramePing, 0, 0, make([]byte, 9), frameSize},
		{"PING on a stream", http2.FramePing, 0, 1, make([]byte, 8), protocol},
		{"RST_STREAM of 3", http2.FrameRSTStream, 0, 1, make([]byte, 3), frameSize},
		{"RST_STREAM on 0", http2.FrameRSTStream, 0, 0, make([]byte, 4), protocol},
		{"RST_STREAM of an idle stream", http2.FrameRSTStream, 0, 99, make([]byte, 4), protocol},
		{"WINDOW_UPDATE of 5", http2.FrameWindowUpdate, 0, 0, make([]byte, 5), frameSize},
		{"WINDOW_UPDATE of 0 on the connection", http2.FrameWindowUpdate, 0, 0, make([]byte, 4), protocol},
		{"WINDOW_UPDATE over 2^31-1", http2.FrameWindowUpdate, 0, 0, []byte{0x7f, 0xff, 0xff, 0xff}, http2.ErrCodeFlowControl},
		{"WINDOW_UPDATE of an idle stream", http2.FrameWindowUpdate, 0, 99, []byte{0, 0, 0, 1}, protocol},
		{"GOAWAY of 7", http2.FrameGoAway, 0, 0, make([]byte, 7), frameSize},
		{"GOAWAY on a stream", http2.FrameGoAway, 0, 1, make([]byte, 8), protocol},
		{"DATA on 0", http2.FrameData, 0, 0, []byte("x"), protocol},
		{"DATA on an idle stream", http2.FrameData, 0, 99, []byte("x"), protocol},
		{"DATA with more padding than frame", http2.FrameData, 8, 1, []byte{9, 'x'}, protocol},
		{"DATA padded and empty", http2.FrameData, 8, 1, nil, frameSize},
		{"HEADERS on 0", http2.FrameHeaders, 4, 0, open, protocol},
		{"HEADERS on an even stream", http2.FrameHeaders, 4, 2, open, protocol},
		{"HEADERS with more padding than frame", http2.FrameHeaders, 4 | 8, 3, []byte{200, 0x82}, protocol},
		{"HEADERS without their priority", http2.FrameHeaders, 4 | 0x20, 3, []byte{0, 0, 0}, frameSize},
		{"HEADERS that are no HPACK", http2.FrameHeaders, 4 | 1, 3, []byte{0xff, 0xff, 0xff, 0xff, 0xff}, compression},
		{"HEADERS with an index that is not there", http2.FrameHeaders, 4 | 1, 3, []byte{0xfe}, compression},
		{"HEADERS with half a field", http2.FrameHeaders, 4 | 1, 3, []byte{0x00, 0x05, 'a'}, compression},
		{"HEADERS with a table that is too large", http2.FrameHeaders, 4 | 1, 3, append([]byte{0x3f, 0xe2, 0x1f}, open...), compression},
		{"CONTINUATION alone", http2.FrameContinuation, 4, 1, open, protocol},
		{"PUSH_PROMISE", http2.FramePushPromise, 4, 1, []byte{0, 0, 0, 2, 0x82}, protocol},
		{"PRIORITY on 0", http2.FramePriority, 0, 0, make([]byte, 5), protocol},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigConfig{tcp: true, router: refusing})
			other := newBystander(t, r)
			c := r.client(proxytest.PeerConfig{Lenient: true})
			c.Open(proxytest.Call(method), false)
			b := r.accept(proxytest.PeerConfig{})
			in := b.Accept()
			c.Frame(tt.typ, tt.flags, tt.stream, tt.body)
			code := c.WaitClosed()
			if code != int(tt.want) && !(tt.want == frameSize && code == int(protocol)) {
				t.Errorf("closed with code %d, want %v", code, tt.want)
			}
			if in := b.Response(in.ID); !in.Reset {
				t.Error("the stream at the backend goes on")
			}
			other.served()
		})
	}
}

// A fault of one stream ends that stream, not its neighbours.
func TestStreamFaultsStayOnTheStream(t *testing.T) {
	call := func(extra ...string) func(c *proxytest.Peer) uint32 {
		return func(c *proxytest.Peer) uint32 { return c.Open(proxytest.Call(method, extra...), true) }
	}
	raw := func(pairs ...string) func(c *proxytest.Peer) uint32 {
		return func(c *proxytest.Peer) uint32 { return c.Open(proxytest.Fields(pairs...), true) }
	}
	tests := map[string]func(c *proxytest.Peer) uint32{
		"upper case name":         call("X-Session-Id", "1"),
		"empty name":              call("", "1"),
		"space in a name":         call("a b", "1"),
		"CR in a value":           call("x", "a\rb"),
		"LF in a value":           call("x", "a\nb"),
		"NUL in a value":          call("x", "a\x00b"),
		"blank around a value":    call("x", " a"),
		"connection":              call("connection", "close"),
		"keep-alive":              call("keep-alive", "1"),
		"proxy-connection":        call("proxy-connection", "close"),
		"transfer-encoding":       call("transfer-encoding", "chunked"),
		"upgrade":                 call("upgrade", "h2c"),
		"te other than trailers":  raw(":method", "POST", ":scheme", "http", ":path", "/a", "te", "gzip"),
		"two :path":               raw(":method", "POST", ":scheme", "http", ":path", "/a", ":path", "/b"),
		"two :authority":          raw(":method", "POST", ":scheme", "http", ":path", "/a", ":authority", "a", ":authority", "b"),
		"no :path":                raw(":method", "POST", ":scheme", "http"),
		"no :method":              raw(":scheme", "http", ":path", "/a"),
		"no :scheme":              raw(":method", "POST", ":path", "/a"),
		"empty :path":             raw(":method", "POST", ":scheme", "http", ":path", ""),
		"unknown pseudo-header":   raw(":method", "POST", ":scheme", "http", ":path", "/a", ":x", "y"),
		"response pseudo-header":  raw(":method", "POST", ":scheme", "http", ":path", "/a", ":status", "200"),
		"pseudo-header behind":    raw(":method", "POST", ":scheme", "http", "x", "y", ":path", "/a"),
		"content-length no digit": call("content-length", "x"),
		"content-length twice":    call("content-length", "1", "content-length", "2"),
		"content-length of none":  call("content-length", "5"),
		"body too long": func(c *proxytest.Peer) uint32 {
			id := c.Open(proxytest.Call(method, "content-length", "3"), false)
			c.Data(id, true, []byte("four"))
			return id
		},
		"body too short": func(c *proxytest.Peer) uint32 {
			id := c.Open(proxytest.Call(method, "content-length", "5"), false)
			c.Data(id, true, []byte("four"))
			return id
		},
		"pseudo-header in trailers": func(c *proxytest.Peer) uint32 {
			id := c.Open(proxytest.Call(method), false)
			c.Headers(id, true, proxytest.Fields(":path", "/other")...)
			return id
		},
	}
	r := newRig(t, rigConfig{})
	l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
	for name, send := range tests {
		t.Run(name, func(t *testing.T) {
			id := send(c)
			if got := c.Response(id); !got.Reset || got.Code != http2.ErrCodeProtocol {
				t.Errorf("the client read %v, reset=%v %v", got.Blocks, got.Reset, got.Code)
			}
		})
	}
	for i := range b.Opened() {
		if in := b.Stream(b.Nth(i)); in.ID != l.bid && in.Ended {
			t.Errorf("a malformed request reached the backend whole: %v", in.Blocks)
		}
	}
	l.done()
	if got := c.Response(l.cid); got.Trailer("grpc-status") != "0" {
		t.Errorf("its neighbour read %+v", got)
	}
}
