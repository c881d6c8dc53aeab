package relay_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// Streams that end in every way at any moment: by either side's reset, by Cut
// from elsewhere, by the loss of a connection. Each call hears of its end
// once, nothing is left over, and what each side read is the beginning of what the other sent.
func TestRandomEnds(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		for seed := range uint64(15) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) { randomEnds(t, cfg, seed) })
		}
	})
}

// chaos is one run of TestRandomEnds.
type chaos struct {
	t    *testing.T
	seed uint64
	r    *rig
	c    *proxytest.Peer
	busy sync.WaitGroup

	mu    sync.Mutex
	calls map[uint32]*witness // by the number of the stream
	ways  map[uint32]*relay.Stream
}

const chaosStreams = 40

func randomEnds(t *testing.T, cfg rigConfig, seed uint64) {
	t.Helper()
	x := &chaos{t: t, seed: seed, calls: map[uint32]*witness{}, ways: map[uint32]*relay.Stream{}}
	cfg.limits.Resets, cfg.backend.Resets = 10_000, 10_000
	cfg.router = x.route
	x.r = newRig(t, cfg)
	x.c = x.r.client(proxytest.PeerConfig{})
	stop := make(chan struct{})
	var backends sync.WaitGroup
	backends.Go(func() { x.serve(stop) })
	for i := range uint32(chaosStreams) {
		id := x.c.Open(proxytest.Call(method, "x-n", fmt.Sprint(i)), false)
		x.busy.Go(func() { x.client(i, id) })
	}
	x.busy.Wait()
	x.c.Barrier()
	for i, w := range x.calls {
		w.over(t)
		if len(w.stats) > 0 {
			t.Errorf("stream %d heard of its end twice", i)
		}
		if sent := proxytest.Pattern(int(i), len(w.body)); !bytes.Equal(w.body, sent) {
			t.Errorf("stream %d: the call saw other bytes than were sent", i)
		}
	}
	if _, streams := x.r.server.Open(); streams != 0 {
		t.Errorf("%d streams are left", streams)
	}
	close(stop)
	x.c.Close()
	x.r.backend.Close()
	backends.Wait()
}

func (x *chaos) source(n uint32) *rand.Rand { return rand.New(rand.NewPCG(x.seed, uint64(n))) } //nolint:gosec // it shall repeat

func (x *chaos) route(r *rig, s *relay.Stream) {
	var n uint32
	_, _ = fmt.Sscan(s.Header().Get("x-n"), &n)
	w := newWitness()
	x.mu.Lock()
	x.calls[n], x.ways[n] = w, s
	x.mu.Unlock()
	s.Forward(r.backend, s.Header(), w)
}

// client plays the client's side of one stream, to some end.
func (x *chaos) client(n, id uint32) {
	r := x.source(n)
	x.c.Send(id, proxytest.Pattern(int(n), 1+r.IntN(100_000)), r.IntN(2) == 0)
	switch r.IntN(3) {
	case 0:
		x.c.Reset(id, http2.ErrCodeCancel)
	case 1:
		x.c.Barrier()
		x.mu.Lock()
		s := x.ways[n]
		x.mu.Unlock()
		s.Cut(unavailable("cut"))
	}
	got := x.c.Response(id)
	if !bytes.Equal(got.Data, proxytest.Pattern(1000+int(n), got.Bytes)) {
		x.t.Errorf("stream %d: the client read other bytes than were sent", n)
	}
	if !got.Ended && !got.Reset {
		x.c.Reset(id, http2.ErrCodeCancel)
		return
	}
	if got.Ended && !got.Reset {
		x.c.Reset(id, http2.ErrCodeNo) // its own side may still be open
	}
}

// serve plays the backends: each stream ends somehow, some take their connection along.
func (x *chaos) serve(stop chan struct{}) {
	for k := uint32(0); ; k++ {
		select {
		case <-stop:
			return
		case conn := <-x.r.dialed:
			b, ok := proxytest.TryServer(x.t, conn, proxytest.PeerConfig{})
			if !ok {
				continue
			}
			b.OnOpen(func(s proxytest.Stream) { x.answer(b, s) })
		}
	}
}

// answer runs on the Peer's own goroutine, so it waits for nothing.
func (x *chaos) answer(b *proxytest.Peer, s proxytest.Stream) {
	var n uint32
	_, _ = fmt.Sscan(s.Header("x-n"), &n)
	r := x.source(5000 + n)
	way := r.IntN(12)
	if way == 0 {
		_ = b.Conn().Close()
		return
	}
	if way == 1 {
		b.Reset(s.ID, http2.ErrCodeInternal)
		return
	}
	b.Headers(s.ID, false, ok200()...)
	b.Fill(s.ID, proxytest.Pattern(1000+int(n), r.IntN(200_000)))
	switch way {
	case 2:
		b.Reset(s.ID, http2.ErrCodeCancel)
	case 3:
		b.GoAway(s.ID, http2.ErrCodeNo)
		b.Headers(s.ID, true, grpcOK()...)
	default:
		b.Headers(s.ID, true, grpcOK()...)
	}
}
