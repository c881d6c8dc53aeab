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

// meddler is a Call that inserts, drops, waits and holds at places that its
// random source picks, and knows what the backend must read in the end.
type meddler struct {
	*witness
	r    *rand.Rand
	hold func() // has Resume called soon

	passed bool
	want   []byte
}

func (m *meddler) Edit(p []byte, end bool, e *relay.Edits) relay.Verdict {
	for at := 0; at < len(p); {
		n := min(1+m.r.IntN(8000), len(p)-at)
		switch m.r.IntN(8) {
		case 0:
			e.Insert([]byte("<in>"))
			m.want = append(m.want, "<in>"...)
		case 1:
			if m.passed && m.r.IntN(4) == 0 {
				m.hold()
				return relay.Hold
			}
		case 2:
			for i := range n {
				p[at+i] ^= 0x55
			}
		case 3:
			e.Drop(n)
			at += n
			continue
		}
		e.Keep(n)
		m.want = append(m.want, p[at:at+n]...)
		at += n
	}
	if !end && !m.passed && m.r.IntN(3) > 0 {
		return relay.Wait
	}
	if end {
		e.Insert([]byte("<end>"))
		m.want = append(m.want, "<end>"...)
	}
	m.passed = true
	return relay.Pass
}

// Many streams with bodies, frames, windows and edits of all sizes, both ways
// at once, and settings that change meanwhile. Each seed is one run.
func TestRandomTraffic(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		for seed := range uint64(12) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) { randomTraffic(t, cfg, seed) })
		}
	})
}

func randomTraffic(t *testing.T, cfg rigConfig, seed uint64) {
	t.Helper()
	const streams = 12
	source := func(n int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(n))) } //nolint:gosec // it shall repeat
	var resumes sync.WaitGroup
	var mu sync.Mutex
	meddlers := map[string]*meddler{}
	cfg.router = func(r *rig, s *relay.Stream) {
		mu.Lock()
		defer mu.Unlock()
		name := s.Header().Get("x-n")
		m := &meddler{witness: newWitness(), r: source(len(meddlers)), hold: func() { resumes.Go(s.Resume) }}
		meddlers[name] = m
		s.Forward(r.backend, s.Header(), m)
	}
	r := newRig(t, cfg)
	rnd := source(1000)
	settings := func() []http2.Setting {
		return []http2.Setting{
			{ID: http2.SettingInitialWindowSize, Val: []uint32{1000, 16_384, 65_535, 1 << 20}[rnd.IntN(4)]},
			{ID: http2.SettingMaxFrameSize, Val: []uint32{16_384, 20_000, 1 << 20}[rnd.IntN(3)]},
			{ID: http2.SettingHeaderTableSize, Val: []uint32{0, 4096}[rnd.IntN(2)]},
		}
	}
	c := r.client(proxytest.PeerConfig{Settings: settings()})
	type one struct {
		id       uint32
		up, down []byte
	}
	all := make([]one, streams)
	for i := range all {
		all[i].up, all[i].down = proxytest.Pattern(i, rnd.IntN(300_000)), proxytest.Pattern(100+i, rnd.IntN(300_000))
		all[i].id = c.Open(proxytest.Call(method, "x-n", fmt.Sprint(i)), false)
	}
	var busy sync.WaitGroup
	for i := range all {
		busy.Go(func() { sendPieces(c, all[i].id, all[i].up, source(2000+i), true) })
	}
	b := r.accept(proxytest.PeerConfig{Settings: settings()})
	ids := map[string]uint32{}
	for range all {
		in := b.Accept()
		i := 0
		if _, err := fmt.Sscan(in.Header("x-n"), &i); err != nil {
			t.Fatal(err)
		}
		ids[in.Header("x-n")] = in.ID
		busy.Go(func() {
			b.Headers(in.ID, false, ok200()...)
			sendPieces(b, in.ID, all[i].down, source(3000+i), false)
			b.Headers(in.ID, true, append(grpcOK(), proxytest.Fields("x-n", fmt.Sprint(i))...)...)
		})
	}
	for range 5 {
		c.Settings(settings()...)
		b.Settings(settings()...)
		c.Barrier()
		b.Barrier()
	}
	busy.Wait()
	for i, s := range all {
		name := fmt.Sprint(i)
		got := c.Response(s.id)
		if !bytes.Equal(got.Data, s.down) || got.Trailer("x-n") != name {
			t.Errorf("stream %d: the client read %d of %d bytes, or wrong ones", i, got.Bytes, len(s.down))
		}
		in := b.Response(ids[name])
		mu.Lock()
		m := meddlers[name]
		mu.Unlock()
		st := m.over(t)
		if !bytes.Equal(in.Data, m.want) || !in.Ended {
			t.Errorf("stream %d: the backend read %d of %d bytes, or wrong ones, ended=%v", i, in.Bytes, len(m.want), in.Ended)
		}
		if st.In != uint64(len(s.up)) || st.Out != uint64(len(s.down)) || st.Err != nil || st.Reset || st.Status != "0" {
			t.Errorf("stream %d: stats %+v", i, st)
		}
	}
	resumes.Wait()
}

// sendPieces sends b in pieces of random sizes.
func sendPieces(p *proxytest.Peer, id uint32, b []byte, r *rand.Rand, end bool) {
	for len(b) > 0 {
		n := min(1+r.IntN(1+r.IntN(40_000)), len(b))
		p.Send(id, b[:n], false)
		b = b[n:]
	}
	if end {
		p.Send(id, nil, true)
	}
}
