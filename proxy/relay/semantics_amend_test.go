package relay_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
)

// amending is a witness that adds to each message of the answer.
type amending struct {
	*witness
	suffix []byte
}

func (a *amending) Suffix() []byte { return a.suffix }

// lengthPrefixed is a gRPC message with this flag.
func lengthPrefixed(flag byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message))), message...)
}

// However the answer comes in frames: each message has the suffix at its end and in
// its length, compressed ones pass as they are, and credit comes back for all bytes
// that came.
func TestAmendedAnswer(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		suffix := []byte("<suffix>")
		ws := make(chan *witness, 100)
		cfg.router = func(r *rig, s *relay.Stream) {
			w := newWitness()
			ws <- w
			s.Forward(r.backend, s.Header(), &amending{w, suffix})
		}
		r := newRig(t, cfg)
		c := r.client(proxytest.PeerConfig{})
		var b *proxytest.Peer
		rapid.Check(t, func(rt *rapid.T) {
			var came, want []byte
			for range rapid.IntRange(0, 5).Draw(rt, "messages") {
				flag := rapid.SampledFrom([]byte{0, 0, 0, 1}).Draw(rt, "flag")
				size := rapid.SampledFrom([]int{0, 1, 10, 1000, 16380, 40000}).Draw(rt, "size")
				message := proxytest.Pattern(size, size)
				came = append(came, lengthPrefixed(flag, message)...)
				if flag == 0 {
					message = append(bytes.Clone(message), suffix...)
				}
				want = append(want, lengthPrefixed(flag, message)...)
			}
			id := c.Open(proxytest.Call(method), true)
			if b == nil {
				b = r.accept(proxytest.PeerConfig{})
			}
			in := b.Accept()
			b.Headers(in.ID, false, ok200()...)
			for left := came; len(left) > 0; {
				n := min(len(left), rapid.SampledFrom([]int{1, 2, 4, 5, 6, 100, 16384}).Draw(rt, "frame"))
				b.Send(in.ID, left[:n], false)
				left = left[n:]
			}
			b.Headers(in.ID, true, grpcOK()...)
			got := c.Response(id)
			if !bytes.Equal(got.Data, want) {
				rt.Errorf("the client read %d bytes, want %d", len(got.Data), len(want))
			}
			if st := (<-ws).over(t); st.Out != uint64(len(want)) || st.Status != "0" {
				rt.Errorf("stats %+v", st)
			}
		})
	})
}

// An answer that ends inside a message breaks as any other does.
func TestAmendedAnswerBreaks(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		ws := make(chan *witness, 1)
		cfg.router = func(r *rig, s *relay.Stream) {
			w := newWitness()
			ws <- w
			s.Forward(r.backend, s.Header(), &amending{w, []byte("x")})
		}
		r := newRig(t, cfg)
		c := r.client(proxytest.PeerConfig{})
		id := c.Open(proxytest.Call(method), true)
		b := r.accept(proxytest.PeerConfig{})
		in := b.Accept()
		b.Headers(in.ID, false, ok200()...)
		b.Data(in.ID, false, lengthPrefixed(0, make([]byte, 100))[:50])
		c.Bytes(id, 50)
		b.Reset(in.ID, 2)
		c.Response(id)
		if st := (<-ws).over(t); st.Err == nil {
			t.Errorf("stats %+v", st)
		}
	})
}
