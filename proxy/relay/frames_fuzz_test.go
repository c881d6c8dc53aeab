package relay_test

import (
	"bytes"
	"context"
	"reflect"
	"runtime"
	"sync"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frameBytes turns what the fuzzer makes into frames that are whole, so that
// it gets past the head of a frame: type, flags, stream, length, payload, and
// so on. A payload of length 255 is one of blocks. Where data begins with 0xff, the
// rest are the bytes themselves, which may end anywhere: they are not whole.
func frameBytes(data []byte, blocks [][]byte) (b []byte, whole bool) {
	if len(data) > 0 && data[0] == 0xff {
		return data[1:], false
	}
	var out bytes.Buffer
	fr := http2.NewFramer(&out, nil)
	fr.AllowIllegalWrites = true
	for len(data) >= 4 && out.Len() < 1<<20 {
		typ, flags, stream, n := http2.FrameType(data[0]%12), http2.Flags(data[1]), uint32(data[2]%12), int(data[3])
		data = data[4:]
		payload := []byte(nil)
		if n == 255 && len(data) > 0 {
			payload = blocks[int(data[0])%len(blocks)]
			data = data[1:]
		} else {
			n = min(n, len(data))
			payload, data = data[:n], data[n:]
		}
		if typ == http2.FrameData && flags&0x40 != 0 {
			payload = bytes.Repeat(append(payload, 'x'), 20)
		}
		_ = fr.WriteRawFrame(typ, flags, stream, payload)
	}
	return out.Bytes(), true
}

// tally is a Call that lets all pass; the tally of all of them must come out even.
type tally struct {
	open *sync.WaitGroup
}

func (tally) Edit(p []byte, _ bool, e *relay.Edits) relay.Verdict {
	switch {
	case bytes.Contains(p, []byte("cut")):
		e.Reply = unavailable("cut")
		return relay.Cut
	case bytes.Contains(p, []byte("ins")):
		e.Keep(1)
		e.Insert([]byte("inserted"))
		e.Keep(len(p) - 1)
	case bytes.Contains(p, []byte("wait")):
		e.Keep(len(p))
		return relay.Wait
	default:
		e.Keep(len(p))
	}
	return relay.Pass
}
func (tally) Broken(relay.Break) *relay.Reply { return unavailable("broken") }
func (c tally) Done(relay.Stats)              { c.open.Done() }

// FuzzClientFrames plays a client that sends anything. The relay must survive, end
// every stream that it began, and never send the backend a frame that breaks RFC 9113.
func FuzzClientFrames(f *testing.F) {
	blocks := [][]byte{
		encodeFields(proxytest.Call(method)), encodeFields(proxytest.Call("/refused")),
		encodeFields(proxytest.Fields("x-trailer", "1")), {0x88}, {0x40, 1, 'a', 1, 'b', 0xbe},
		encodeFields(proxytest.Call("/later")),
	}
	f.Add([]byte{4, 0, 0, 0})
	f.Add([]byte{0xff, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 1, 5, 0, 0, 0, 1, 0x83, 0x86, 0x84, 0x01, 0, 0, 1})
	f.Add([]byte{4, 0, 0, 0, 1, 5, 1, 255, 0, 1, 5, 3, 255, 1})
	f.Add([]byte{4, 0, 0, 0, 1, 4, 1, 255, 0, 0, 0, 1, 5, 0, 0, 0, 0, 9, 0, 1, 1, 3, 'i', 'n', 's', 3, 0, 1, 4, 0, 0, 0, 8})
	f.Add([]byte{4, 0, 0, 0, 1, 0, 1, 3, 0x83, 0x86, 0x84, 9, 0, 1, 0, 9, 4, 1, 0, 8, 0, 1, 4, 0, 0, 1, 0})
	f.Add([]byte{4, 0, 0, 6, 0, 4, 0, 0, 0, 9, 1, 4, 1, 255, 0, 0, 8, 1, 3, 1, 'w', 0, 6, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte{4, 0, 0, 0, 1, 4, 1, 255, 5, 0, 0x41, 1, 4, 'w', 'a', 'i', 't', 2, 0, 1, 5, 0, 0, 0, 1, 5})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		var open sync.WaitGroup
		var mu sync.Mutex
		var later []*relay.Stream // guarded by mu: the relay may still route where it does not echo
		r := newRig(t, rigConfig{router: func(r *rig, s *relay.Stream) {
			switch s.Header().Get(":path") {
			case "/refused":
				s.Refuse(unavailable("no"))
			case "/later":
				mu.Lock()
				later = append(later, s)
				mu.Unlock()
			default:
				open.Add(1)
				s.Forward(r.backend, s.Header(), tally{&open})
			}
		}})
		back := answering(t, r)
		conn := r.connect()
		c := proxytest.Client(t, conn, proxytest.PeerConfig{Silent: true, Lenient: true, Discard: true})
		c.Raw([]byte(http2.ClientPreface))
		b, whole := frameBytes(data, blocks)
		c.Raw(b)
		if whole {
			c.Ping([8]byte{1}) // by its echo the relay has read all, if it still listens
			c.WaitPong()
		}
		mu.Lock()
		held := later
		mu.Unlock()
		for _, s := range held {
			s.Forward(r.backend, s.Header(), nil)
		}
		c.Close()
		soon(t, "end of the connection", r.serving.Wait)
		soon(t, "Done of every call", open.Wait)
		if conns, streams := r.server.Open(); conns != 0 || streams != 0 {
			t.Errorf("%d connections and %d streams are left", conns, streams)
		}
		r.backend.Close()
		back()
	})
}

// soon fails the test when f does not return within proxytest.Patience.
func soon(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), proxytest.Patience)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
		buf := make([]byte, 1<<20)
		t.Fatalf("no %s\n%s", what, buf[:runtime.Stack(buf, true)])
	}
}

// answering plays a backend that answers each stream when it opens, and fails
// the test when a frame comes that should not. The function it returns waits for its end.
func answering(t *testing.T, r *rig) (wait func()) {
	done := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(done)
		var peers []*proxytest.Peer
		for {
			select {
			case conn := <-r.dialed:
				b, ok := proxytest.TryServer(t, conn, proxytest.PeerConfig{})
				if !ok {
					continue // it was dialed for a stream that is gone
				}
				b.OnOpen(func(s proxytest.Stream) {
					b.Headers(s.ID, false, ok200()...)
					b.Data(s.ID, false, []byte("answer"))
					b.Headers(s.ID, true, grpcOK()...)
				})
				peers = append(peers, b)
			case <-stop:
				for _, p := range peers {
					p.Close()
				}
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-done
	}
}

// FuzzBackendFrames plays a backend that sends anything. Whatever that is, the
// client must read a conformant stream of frames, and every one of its streams ends.
func FuzzBackendFrames(f *testing.F) {
	blocks := [][]byte{
		encodeFields(ok200()), encodeFields(grpcOK()), encodeFields(trailersOnly("5")),
		encodeFields(proxytest.Fields(":status", "103")), {0x40, 1, 'a', 1, 'b', 0xbe}, {0x88},
	}
	f.Add([]byte{4, 0, 0, 0})
	f.Add([]byte{0xff, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 1, 5, 0, 0, 0, 1, 0x83, 0x86, 0x84, 0x01, 0, 0, 1})
	f.Add([]byte{4, 0, 0, 0, 1, 4, 1, 255, 0, 0, 0x40, 1, 3, 'a', 'b', 'c', 1, 5, 1, 255, 1, 1, 5, 3, 255, 2})
	f.Add([]byte{4, 0, 0, 0, 1, 4, 1, 255, 3, 1, 4, 1, 255, 5, 0, 1, 1, 0, 7, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0})
	f.Add([]byte{4, 0, 0, 0, 7, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 4, 0, 0, 0, 7})
	f.Add([]byte{4, 0, 0, 6, 0, 4, 0, 0, 0, 0, 8, 0, 1, 4, 0, 0, 0, 9, 8, 0, 0, 4, 0, 0, 0, 9, 3, 0, 3, 4, 0, 0, 0, 2})
	f.Add([]byte{4, 0, 0, 6, 0, 3, 0, 0, 0, 1, 0, 1, 1, 1, 'x', 0, 0, 3, 1, 'y'})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		var open sync.WaitGroup
		r := newRig(t, rigConfig{router: func(r *rig, s *relay.Stream) {
			open.Add(1)
			s.Forward(r.backend, s.Header(), tally{&open})
		}})
		c := r.client(proxytest.PeerConfig{})
		ids := []uint32{
			c.Open(proxytest.Call(method), true), c.Open(proxytest.Call(method), false),
			c.Open(proxytest.Call(method), true), c.Open(proxytest.Call(method), false),
		}
		c.Data(ids[1], false, bytes.Repeat([]byte("body"), 100))
		c.Send(ids[3], bytes.Repeat([]byte("body"), 10_000), true)
		conn := r.conn()
		b, ok := proxytest.TryServer(t, conn, proxytest.PeerConfig{Silent: true, Lenient: true, Discard: true})
		if !ok {
			t.Fatal("no preface came")
		}
		raw, whole := frameBytes(data, blocks)
		b.Raw(raw)
		if whole {
			b.Ping([8]byte{1})
			b.WaitPong()
		}
		b.Close()
		r.backend.Close()
		for _, id := range ids {
			c.Response(id)
		}
		c.Reset(ids[1], http2.ErrCodeCancel) // an answered request may still be open on the client's side
		soon(t, "Done of every call", open.Wait)
		c.Barrier()
		if faults := c.Faults(); len(faults) > 0 {
			t.Errorf("the client read what breaks RFC 9113: %v", faults)
		}
	})
}

// FuzzHeaderBlocks compares the relay's reading of header blocks, with all that
// it remembers between them, to a plain HPACK decoder's; and what it writes to
// the backend to what it read.
func FuzzHeaderBlocks(f *testing.F) {
	good := encodeFields(proxytest.Call(method, "x-a", "1"))
	f.Add(good, good, []byte{0xbe})
	f.Add(append(good, 0x40, 1, 'a', 1, 'b'), append(good, 0xbe), append(good, 0xbf))
	f.Add(append([]byte{0x20}, good...), append([]byte{0x3f, 0xe1, 0x1f}, good...), append(good, 0x40, 1, 'c', 0))
	f.Add(append([]byte{0x3f, 0x01}, good...), append(good, 0x60, 1, 'd', 1, 'e', 0xbe), good)
	f.Add(append(good, 0x10, 1, 'x', 0x81, 0xff), []byte{0x82, 0x86, 0x84}, []byte{0x83, 0x86, 0x04, 1, '/'})
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		if len(a)+len(b)+len(c) > 8000 {
			return
		}
		seen := make(chan []hpack.HeaderField, 16)
		r := newRig(t, rigConfig{router: func(r *rig, s *relay.Stream) {
			seen <- s.Header().Fields
			s.Forward(r.backend, s.Header(), nil)
		}})
		client := r.client(proxytest.PeerConfig{Lenient: true})
		var back *proxytest.Peer
		reference := hpack.NewDecoder(4096, nil)
		reference.SetMaxStringLength(64 << 10)
		for _, block := range [][]byte{a, a, b, c, b, a, good} {
			want, err := reference.DecodeFull(block)
			id := client.NextID()
			client.Block(id, true, block)
			if err != nil {
				if code := client.WaitClosed(); code != int(http2.ErrCodeCompression) && code != -1 {
					t.Fatalf("closed with %d, want a compression error for %q: %v", code, block, err)
				}
				return
			}
			client.Barrier()
			var got []hpack.HeaderField
			select {
			case got = <-seen:
			default: // malformed as a request: the stream was reset
				if s := client.Response(id); !s.Reset && s.Header(":status") != "431" {
					t.Fatalf("a block that the router did not see was answered: %v", s.Blocks)
				}
				continue
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("block %q: the router saw %v, want %v", block, got, want)
			}
			if back == nil {
				back = r.accept(proxytest.PeerConfig{})
			}
			in := back.Accept()
			if len(in.Blocks[0]) != len(want) {
				t.Fatalf("the backend read %v, want %v", in.Blocks[0], want)
			}
			for i, f := range in.Blocks[0] {
				if f.Name != want[i].Name || f.Value != want[i].Value {
					t.Fatalf("the backend read %v, want %v", f, want[i])
				}
			}
			back.Headers(in.ID, true, trailersOnly("0")...)
			client.Response(id)
		}
	})
}
