package relay_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
)

// A small piece that waits behind an insertion stays behind it.
func TestSmallPieceDoesNotOvertakeAnInsertion(t *testing.T) {
	streams := make(chan *relay.Stream, 1)
	r := newRig(t, rigConfig{router: func(_ *rig, s *relay.Stream) { streams <- s }})
	c := r.client(proxytest.PeerConfig{})
	id := c.Open(proxytest.Call(method), false)
	s := <-streams
	// The first message comes in small frames before its route is known, so that they
	// are collected; more than 512 bytes of them.
	first := bytes.Repeat([]byte("a"), 800)
	first[len(first)-1] = '!'
	for p := range slices.Chunk(first, 100) {
		c.Data(id, false, p)
	}
	c.Barrier()
	stamps := newWitness()
	stamps.edit = func(p []byte, _ bool, e *relay.Edits) relay.Verdict {
		e.Keep(len(p))
		if bytes.HasSuffix(p, []byte("!")) {
			e.Insert([]byte("STAMP"))
		}
		return relay.Pass
	}
	s.Forward(r.backend, s.Header(), stamps) // no connection yet: all that follows waits
	c.Data(id, false, []byte("second"))
	c.Data(id, true, nil)
	c.Barrier()
	b := r.accept(proxytest.PeerConfig{})
	got := b.WaitStream(b.Accept().ID, "the end", func(s *proxytest.Stream) bool { return s.Ended })
	if want := string(first) + "STAMPsecond"; string(got.Data) != want {
		t.Errorf("the backend read ...%q, not ...%q", got.Data[min(790, len(got.Data)):], want[790:])
	}
	b.Headers(got.ID, true, trailersOnly("0")...)
	c.Response(id)
}
