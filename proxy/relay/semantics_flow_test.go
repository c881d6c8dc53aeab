package relay_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

func window(n uint32) []http2.Setting {
	return []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: n}}
}

// With windows of one byte every byte is a frame of its own, and all still come.
func TestWindowOfOneByte(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		small := proxytest.PeerConfig{Settings: window(1)}
		l, c, b := newRig(t, cfg).open(small, small)
		body := proxytest.Pattern(1, 500)
		c.Send(l.cid, body, true)
		if in := b.Response(l.bid); !bytes.Equal(in.Data, body) || in.Frames < 500 {
			t.Errorf("the backend read %d bytes in %d frames", in.Bytes, in.Frames)
		}
		l.answer()
		b.Send(l.bid, body, true)
		if got := c.Response(l.cid); !bytes.Equal(got.Data, body) || got.Frames < 500 {
			t.Errorf("the client read %d bytes in %d frames", got.Bytes, got.Frames)
		}
	})
}

// Frames of every size up to what each side takes; the relay cuts and never
// sends one that is too large (the Peer checks).
func TestFrameSizes(t *testing.T) {
	frame := func(n uint32) []http2.Setting { return []http2.Setting{{ID: http2.SettingMaxFrameSize, Val: n}} }
	wires(t, func(t *testing.T, cfg rigConfig) {
		for _, size := range []uint32{16384, 1 << 20} {
			for _, other := range []uint32{16384, 1 << 20} {
				t.Run(fmt.Sprintf("client %d backend %d", size, other), func(t *testing.T) {
					l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{Settings: frame(size)}, proxytest.PeerConfig{Settings: frame(other)})
					body := proxytest.Pattern(int(size+other), 1_500_000)
					c.Send(l.cid, body, true)
					if in := b.Response(l.bid); !bytes.Equal(in.Data, body) {
						t.Errorf("the backend read %d bytes, or wrong ones", in.Bytes)
					}
					l.answer()
					b.Send(l.bid, body, true)
					if got := c.Response(l.cid); !bytes.Equal(got.Data, body) {
						t.Errorf("the client read %d bytes, or wrong ones", got.Bytes)
					}
				})
			}
		}
	})
}

// INITIAL_WINDOW_SIZE may change while a stream is open; the window may even
// become negative. The Peer fails the test for one byte too many.
func TestWindowChangesMidStream(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(
			proxytest.PeerConfig{Settings: window(1000), ManualWindow: true}, proxytest.PeerConfig{ManualWindow: true})
		l.answer()
		body := proxytest.Pattern(3, 5000)
		b.Data(l.bid, false, body)
		c.Bytes(l.cid, 1000)

		c.Settings(window(200)...) // 1000 are used: the window is -800
		c.WaitSettings()
		c.Credit(l.cid, 800) // 0
		c.Barrier()
		if n := c.Stream(l.cid).Bytes; n != 1000 {
			t.Fatalf("%d bytes with a window of 0", n)
		}
		c.Credit(l.cid, 1)
		c.Bytes(l.cid, 1001)
		c.Settings(window(1200)...) // 1000 more
		c.Bytes(l.cid, 2001)
		c.Settings(window(0)...)
		c.WaitSettings()
		c.Settings(window(1<<31 - 1 - 2000)...)
		if got := c.Bytes(l.cid, 5000); !bytes.Equal(got.Data, body) {
			t.Error("other bytes than were sent")
		}
		b.Headers(l.bid, true, grpcOK()...)
		c.Response(l.cid)

		// And towards the backend.
		up := proxytest.Pattern(4, 5000)
		b.Settings(window(100)...)
		b.WaitSettings()
		l = l.next()
		c.Data(l.cid, false, up)
		b.Bytes(l.bid, 100)
		b.Settings(window(0)...)
		b.WaitSettings()
		b.Barrier()
		b.Credit(l.bid, 100)
		b.Barrier()
		if n := b.Stream(l.bid).Bytes; n != 100 {
			t.Fatalf("%d bytes with a window of 0", n)
		}
		b.Credit(l.bid, 4900)
		if in := b.Bytes(l.bid, 5000); !bytes.Equal(in.Data, up) {
			t.Error("other bytes than were sent")
		}
	})
}

// What was sent before a setting was processed comes before its
// acknowledgement: a client that lowered its window can tell from then on what is
// too much.
func TestSettingsAckKeepsItsPlace(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		r := newRig(t, cfg)
		d := deaf(t, r)
		if err := d.framer.WriteSettings(window(16 << 20)...); err != nil {
			t.Fatal(err)
		}
		if err := d.framer.WriteWindowUpdate(0, 16<<20); err != nil {
			t.Fatal(err)
		}
		if err := d.open(0, encodeFields(proxytest.Call(method))); err != nil {
			t.Fatal(err)
		}
		b := r.accept(proxytest.PeerConfig{})
		id := b.Accept().ID
		b.Headers(id, false, ok200()...)
		sent := 0
		for range 32 { // more than the sockets hold, where they are small
			sent += b.Fill(id, make([]byte, 1<<20))
			b.Barrier()
		}
		if err := d.framer.WriteSettings(window(0)...); err != nil {
			t.Fatal(err)
		}
		fr := http2.NewFramer(nil, d.conn)
		_ = d.conn.SetReadDeadline(time.Now().Add(proxytest.Patience))
		acks, read, after := 0, 0, 0
		for read < sent || acks < 3 {
			f, err := fr.ReadFrame()
			if err != nil {
				t.Fatalf("after %d of %d bytes and %d acknowledgements: %v", read, sent, acks, err)
			}
			switch f := f.(type) {
			case *http2.DataFrame:
				read += len(f.Data())
				if acks == 3 {
					after += len(f.Data())
				}
			case *http2.SettingsFrame:
				if f.IsAck() {
					acks++
				}
			}
		}
		if after > 0 {
			t.Errorf("%d bytes came after the window of 0 was acknowledged", after)
		}
	})
}

// The connection's window is one thing, the streams' another: when the
// connection's is spent nothing moves, and then all streams go on.
func TestConnectionWindow(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		const streams, size = 4, 60_000
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{Settings: window(1 << 20), ManualWindow: true}, proxytest.PeerConfig{})
		links := []*link{l}
		for range streams - 1 {
			links = append(links, l.next())
		}
		for i, l := range links {
			l.answer()
			b.Send(l.bid, proxytest.Pattern(i, size), true)
		}
		received := func() (n int) {
			for _, l := range links {
				n += c.Stream(l.cid).Bytes
			}
			return n
		}
		c.WaitStream(l.cid, "65,535 bytes on all streams", func(*proxytest.Stream) bool { return true })
		for received() < 65535 {
			c.Barrier()
		}
		c.Barrier()
		if n := received(); n != 65535 {
			t.Fatalf("%d bytes over a connection window of 65535", n)
		}
		c.Credit(0, 1<<20)
		for i, l := range links {
			if got := c.Response(l.cid); !bytes.Equal(got.Data, proxytest.Pattern(i, size)) {
				t.Errorf("stream %d: %d bytes, or wrong ones", i, got.Bytes)
			}
		}
	})
}

// What a stalled stream can park is bounded by the window that the relay gave
// for it, on either side: credit comes back only for bytes that were written.
func TestStalledStreamIsBounded(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		limits := relay.DefaultLimits()
		l, c, b := newRig(t, cfg).open(
			proxytest.PeerConfig{Settings: window(0), ManualWindow: true}, proxytest.PeerConfig{Settings: window(0), ManualWindow: true})
		much := proxytest.Pattern(5, limits.MaxStreamWindow+100_000)

		l.answer()
		down := b.Fill(l.bid, much)
		b.Barrier()
		down += b.Fill(l.bid, much[down:])
		if down != limits.StreamWindow || b.Granted(l.bid) != 0 {
			t.Errorf("the backend could send %d bytes, and was granted %d more, to a stalled client; the window is %d", down, b.Granted(l.bid), limits.StreamWindow)
		}
		up := c.Fill(l.cid, much)
		c.Barrier()
		up += c.Fill(l.cid, much[up:])
		if up != limits.StreamWindow || c.Granted(l.cid) != 0 {
			t.Errorf("the client could send %d bytes, and was granted %d more, to a stalled backend; the window is %d", up, c.Granted(l.cid), limits.StreamWindow)
		}

		// Credit for what is taken, and never more than that and what is parked.
		const taken = 200_000
		c.Credit(0, 1<<30)
		c.Credit(l.cid, taken)
		c.Bytes(l.cid, taken)
		b.Barrier()
		if g := b.Granted(l.bid); g > taken+limits.MaxStreamWindow-limits.StreamWindow {
			t.Errorf("%d bytes of credit for %d bytes taken", g, taken)
		}
		c.Credit(l.cid, 1<<30)
		for at := down; at < len(much); {
			b.WaitRoom(l.bid, 1)
			at += b.Fill(l.bid, much[at:])
		}
		if got := c.Bytes(l.cid, len(much)); !bytes.Equal(got.Data, much) {
			t.Error("other bytes than were sent")
		}
	})
}

// Forty streams that are not read leave four others at full speed: all on the
// same two connections.
func TestSlowReaderSlowsOnlyItself(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		const stalled, fast, size = 40, 4, 4 << 20
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{Settings: window(0), ManualWindow: true}, proxytest.PeerConfig{})
		c.Credit(0, 1<<30)
		links := []*link{l}
		for range stalled + fast - 1 {
			links = append(links, l.next())
		}
		for _, l := range links {
			l.answer()
		}
		for i, l := range links[:stalled] {
			b.Fill(l.bid, proxytest.Pattern(i, 1<<20))
		}
		b.Barrier()
		for i, l := range links[stalled:] {
			c.Credit(l.cid, 1<<30)
			body := proxytest.Pattern(1000+i, size)
			b.Send(l.bid, body, true)
			if got := c.Response(l.cid); !bytes.Equal(got.Data, body) {
				t.Errorf("fast stream %d: %d bytes, or wrong ones", i, got.Bytes)
			}
		}
		for i, l := range links[:stalled] {
			if n := c.Stream(l.cid).Bytes; n != 0 {
				t.Errorf("stalled stream %d got %d bytes", i, n)
			}
		}
		first := links[0]
		c.Credit(first.cid, 1<<30)
		c.Bytes(first.cid, relay.DefaultLimits().StreamWindow)
	})
}

// The same for uploads: backends that do not read.
func TestSlowBackendStreamSlowsOnlyItself(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		const stalled, size = 40, 2 << 20
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{Settings: window(0), ManualWindow: true})
		b.Credit(0, 1<<30)
		links := []*link{l}
		for range stalled {
			links = append(links, l.next())
		}
		for i, l := range links[:stalled] {
			c.Fill(l.cid, proxytest.Pattern(i, 1<<20))
		}
		c.Barrier()
		free := links[stalled]
		b.Credit(free.bid, 1<<30)
		body := proxytest.Pattern(77, size)
		c.Send(free.cid, body, true)
		if in := b.Response(free.bid); !bytes.Equal(in.Data, body) {
			t.Errorf("the free stream: %d bytes, or wrong ones", in.Bytes)
		}
	})
}

// A receiver may give each byte back at once, to the stream and to the
// connection: two updates for a frame are no flood.
func TestTwoUpdatesForEachFrame(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{ManualWindow: true}, proxytest.PeerConfig{ManualWindow: true})
		l.answer()
		frames := 12 * relay.DefaultLimits().WindowUpdates
		for range frames {
			c.WaitRoom(l.cid, 1)
			c.Data(l.cid, false, []byte{1})
			b.WaitRoom(l.bid, 1)
			b.Data(l.bid, false, []byte{2})
		}
		for at := 0; at < frames; at++ {
			c.Bytes(l.cid, at+1)
			b.Bytes(l.bid, at+1)
			for _, p := range []*proxytest.Peer{c, b} {
				p.Credit(l.cid, 1)
				p.Credit(0, 1)
			}
		}
		c.Barrier()
		b.Barrier()
	})
}

// Padding counts against the windows and must be given back, or a stream of
// padded frames stops for ever.
func TestPaddingIsCredited(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
		l.answer()
		pad := make([]byte, 255)
		total := 4 * relay.DefaultLimits().MaxStreamWindow
		for sent := 0; sent < total; sent += 256 {
			c.WaitRoom(l.cid, 300)
			c.Padded(l.cid, false, []byte{1}, pad)
			b.WaitRoom(l.bid, 300)
			b.Padded(l.bid, false, []byte{2}, pad)
		}
		c.Padded(l.cid, true, nil, pad)
		b.Headers(l.bid, true, grpcOK()...)
		if in, got := b.Response(l.bid), c.Response(l.cid); in.Bytes != total/256 || got.Bytes != total/256 {
			t.Errorf("%d bytes up, %d down, of %d", in.Bytes, got.Bytes, total/256)
		}
	})
}

// DATA for a stream that was reset still comes for a while. The connection's
// window must survive that, or it leaks away.
func TestDataAfterResetIsCredited(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		cfg.limits.Resets = 1000
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{ManualWindow: true})
		b.Credit(0, 1<<30)
		piece := make([]byte, 16384)
		for range 100 { // 25 MiB in all, more than any connection window
			for range 16 {
				b.Data(l.bid, false, piece)
			}
			c.Reset(l.cid, http2.ErrCodeCancel)
			l = l.next()
		}
		l.answer()
		b.Send(l.bid, []byte("still here"), true)
		if got := c.Response(l.cid); string(got.Data) != "still here" {
			t.Errorf("the client read %q", got.Data)
		}
	})
}

// DATA of a stream that was reset is ignored as far as it may have been on its way:
// one window. After that the engine floods, and its connection ends.
func TestDataAfterResetIsBounded(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{Lenient: true, ManualWindow: true})
		l.answer()
		c.Reset(l.cid, http2.ErrCodeCancel)
		b.Response(l.bid)
		piece := make([]byte, 16384)
		for range relay.DefaultLimits().StreamWindow / len(piece) {
			b.Data(l.bid, false, piece)
		}
		b.Barrier()
		next := l.next()
		next.answer()
		b.Send(next.bid, []byte("still here"), true)
		if got := c.Response(next.cid); string(got.Data) != "still here" {
			t.Errorf("the client read %q", got.Data)
		}
		b.Data(l.bid, false, []byte("x"))
		if last := b.WaitGoAway(1); last.Code != http2.ErrCodeFlowControl {
			t.Errorf("one byte more: %v", last.Code)
		}
	})
}

// Content of many streams interleaved frame by frame stays with its stream.
func TestInterleavedFrames(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		const streams, rounds = 20, 40
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{Settings: window(1 << 20)}, proxytest.PeerConfig{Settings: window(1 << 20)})
		links := []*link{l}
		for range streams - 1 {
			links = append(links, l.next())
		}
		for _, l := range links {
			l.answer()
		}
		want := make([][]byte, streams)
		for k := range rounds {
			for i, l := range links {
				part := proxytest.Pattern(i*1000+k, (i*977+k*331)%3000)
				want[i] = append(want[i], part...)
				c.Send(l.cid, part, false)
				b.Send(l.bid, part, false)
			}
		}
		for i, l := range links {
			l.done()
			in, got := b.Response(l.bid), c.Response(l.cid)
			if !bytes.Equal(in.Data, want[i]) || !bytes.Equal(got.Data, want[i]) {
				t.Errorf("stream %d: %d bytes up, %d down of %d, or wrong ones", i, in.Bytes, got.Bytes, len(want[i]))
			}
		}
	})
}

// A larger INITIAL_WINDOW_SIZE is acknowledged before any DATA that needs it, and a
// smaller one behind all DATA that no longer fits it: gRPC C-core counts from the
// acknowledgement on and ends the stream over one byte too many. The Peer does too.
func TestWindowChangesAreAcknowledgedInOrder(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(
			proxytest.PeerConfig{Settings: window(1000), ManualWindow: true}, proxytest.PeerConfig{Settings: window(1000), ManualWindow: true})
		l.answer()
		const size = 60000
		down, up := proxytest.Pattern(5, size), proxytest.Pattern(6, size)
		var sent sync.WaitGroup
		sent.Go(func() { b.Send(l.bid, down, false) })
		sent.Go(func() { c.Send(l.cid, up, false) })
		c.Bytes(l.cid, 1000) // the rest is parked
		b.Bytes(l.bid, 1000)
		for n := uint32(2000); n <= 20000; n += 1000 {
			c.Settings(window(n)...)
			c.Bytes(l.cid, int(n))
			b.Settings(window(n)...)
			b.Bytes(l.bid, int(n))
		}
		for n := uint32(20000); n > 10000; n -= 1000 { // and smaller, while some goes out
			c.Settings(window(n)...)
			c.Credit(l.cid, 2000)
			b.Settings(window(n)...)
			b.Credit(l.bid, 2000)
		}
		c.Settings(window(size)...)
		b.Settings(window(size)...)
		if got := c.Bytes(l.cid, size); !bytes.Equal(got.Data, down) {
			t.Error("the client got other bytes than were sent")
		}
		if got := b.Bytes(l.bid, size); !bytes.Equal(got.Data, up) {
			t.Error("the backend got other bytes than were sent")
		}
		sent.Wait()
	})
}
