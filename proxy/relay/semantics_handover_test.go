package relay_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// handing is a Call that hands its answer over behind the first whole message that
// it is shown.
type handing struct {
	*witness
	suffix []byte
	stays  bool // it does not
	asked  int
	seen   []byte
}

func (h *handing) Suffix() []byte { return h.suffix }

func (h *handing) HandOver() func([]byte) (int, *relay.Reply) {
	h.asked++
	if h.stays {
		return nil
	}
	return h.next
}

func (h *handing) next(p []byte) (int, *relay.Reply) {
	h.seen = append(h.seen, p...)
	if len(h.seen) < 5 {
		return 0, nil
	}
	size := 5 + int(binary.BigEndian.Uint32(h.seen[1:]))
	if len(h.seen) < size {
		return 0, nil
	}
	return len(p) - (len(h.seen) - size), &relay.Reply{Trailer: grpcOK()}
}

// handingRig is a rig whose only stream is h's.
func handingRig(t *testing.T, cfg rigConfig, h *handing) (*rig, *link, *proxytest.Peer, *proxytest.Peer) {
	t.Helper()
	h.witness = newWitness()
	cfg.router = func(r *rig, s *relay.Stream) { s.Forward(r.backend, s.Header(), h) }
	r := newRig(t, cfg)
	l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{}, 'x')
	l.answer()
	c.Headers1(l.cid)
	return r, l, c, b
}

// An answer is handed over behind a whole message, wherever the frames end: the
// client reads every message before that, and OK; the engine, that nobody listens.
func TestHandOver(t *testing.T) {
	a, m, z := proxytest.Message(proxytest.Pattern(1, 3000)), proxytest.Message(proxytest.Pattern(2, 40_000)), proxytest.Message(proxytest.Pattern(3, 20_000))
	empty := proxytest.Message(nil)
	for _, tc := range []struct {
		name          string
		before, after []byte // the drain
		want          []byte
		suffix        []byte
	}{
		{name: "between messages", before: a, after: join(m, z), want: join(a, m)},
		{name: "inside a message", before: a[:100], after: join(a[100:], m, z[:50]), want: join(a, m)},
		{name: "inside a prefix", before: join(a, m[:3]), after: join(m[3:], z, a[:7]), want: join(a, m, z)},
		{name: "an empty message", before: a, after: join(empty, m), want: join(a, empty)},
		{name: "with the message's last byte", before: a[:len(a)-1], after: join(a[len(a)-1:], m), want: join(a, m)},
		{
			name: "messages that are added to", before: a[:100], after: join(a[100:], m, z[:50]), suffix: []byte("more"),
			want: join(proxytest.Message(append(bytes.Clone(a[5:]), "more"...)), proxytest.Message(append(bytes.Clone(m[5:]), "more"...))),
		},
	} {
		for _, piece := range []int{1 << 20, 997, 61} {
			handOverTest(t, fmt.Sprintf("%s, %d", tc.name, piece), func(t *testing.T) {
				h := &handing{suffix: tc.suffix}
				r, l, c, b := handingRig(t, rigConfig{}, h)
				b.Send(l.bid, tc.before, false)
				c.Bytes(l.cid, len(tc.before))
				done := r.shutdown(t.Context())
				c.WaitGoAway(2)
				for p := range slices.Chunk(tc.after, piece) {
					b.Send(l.bid, p, false)
				}
				got := c.Response(l.cid)
				if !bytes.Equal(got.Data, tc.want) || got.Trailer("grpc-status") != "0" {
					t.Errorf("the client read %d bytes, want %d; trailers %v", len(got.Data), len(tc.want), got.Blocks)
				}
				if in := b.Response(l.bid); !in.Reset || in.Code != http2.ErrCodeCancel {
					t.Errorf("at the engine: reset=%v %v", in.Reset, in.Code)
				}
				if st := h.over(t); st.Status != "0" || st.Err != nil || st.Out != uint64(len(tc.want)) {
					t.Errorf("stats %+v", st)
				}
				if h.asked != 1 {
					t.Errorf("asked %d times", h.asked)
				}
				c.WaitClosed()
				if err := <-done; err != nil {
					t.Errorf("Shutdown: %v", err)
				}
				b.Barrier() // the engine's connection lives on
			})
		}
	}
}

// A call that does not hand over is asked once and goes on to its own end.
func TestStreamThatStays(t *testing.T) {
	h := &handing{stays: true}
	r, l, c, b := handingRig(t, rigConfig{}, h)
	done := r.shutdown(t.Context())
	c.WaitGoAway(2)
	body := proxytest.Message(proxytest.Pattern(1, 1000))
	for range 3 {
		b.Send(l.bid, body, false)
	}
	l.done()
	if got := c.Response(l.cid); len(got.Data) != 3*len(body) || got.Trailer("grpc-status") != "0" {
		t.Errorf("the client read %d bytes, %v", len(got.Data), got.Blocks)
	}
	if h.asked != 1 {
		t.Errorf("asked %d times, want once", h.asked)
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// Nothing is handed over before the client knows that it is to go elsewhere: it would
// come back to the same connection.
func TestNoHandOverBeforeGoAway(t *testing.T) {
	h := &handing{}
	r, l, c, b := handingRig(t, rigConfig{}, h)
	body := proxytest.Message(proxytest.Pattern(1, 1000))
	b.Send(l.bid, body, false)
	c.Bytes(l.cid, len(body))
	if h.asked != 0 {
		t.Error("asked without a drain")
	}
	done := r.shutdown(t.Context())
	c.WaitGoAway(2)
	b.Send(l.bid, body, false)
	if got := c.Response(l.cid); len(got.Data) != 2*len(body) {
		t.Errorf("the client read %d bytes", len(got.Data))
	}
	<-done
}

// handOverTest is a test whose seconds take no time.
func handOverTest(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }
