package relay_test

import (
	"sync/atomic"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
)

// weighed is a Call that is told what is under way.
type weighed struct {
	*witness
	now, least, calls atomic.Int64
	last              int64 // when Done came
}

func (w *weighed) UnderWay(change int64) {
	w.calls.Add(1)
	now := w.now.Add(change)
	for old := w.least.Load(); now < old && !w.least.CompareAndSwap(old, now); old = w.least.Load() {
	}
}

func (w *weighed) Done(st relay.Stats) {
	w.last = w.now.Load()
	w.witness.Done(st)
}

// What waits on a stream is told in steps, on both sides; and all of it is taken back
// before the stream is over, however it ends.
func TestGaugeIsToldWhatIsUnderWay(t *testing.T) {
	const step = 64 << 10
	read := func(l *link, parked int) {
		l.c.Credit(0, 1<<30)
		l.c.Credit(l.cid, 1<<30)
		l.c.Bytes(l.cid, parked)
	}
	for _, end := range []struct {
		name string
		do   func(l *link, parked int)
	}{
		{"all is read", func(l *link, parked int) {
			read(l, parked)
			l.b.Credit(0, 1<<30)
			l.b.Credit(l.bid, 1<<30)
			l.b.Bytes(l.bid, parked)
			l.done()
		}},
		{"the client resets it", func(l *link, _ int) { l.c.Reset(l.cid, 8) }},
		{"the engine resets it, and the client reads on", func(l *link, parked int) {
			l.b.Reset(l.bid, 2)
			read(l, parked)
		}},
		{"the client's connection ends", func(l *link, _ int) { l.c.Close() }},
		{"the engine's connection ends, and the client reads on", func(l *link, parked int) {
			l.b.Close()
			read(l, parked)
		}},
	} {
		t.Run(end.name, func(t *testing.T) {
			wires(t, func(t *testing.T, cfg rigConfig) {
				calls := make(chan *weighed, 1)
				cfg.router = func(r *rig, s *relay.Stream) {
					w := &weighed{witness: newWitness()}
					calls <- w
					s.Forward(r.backend, s.Header(), w)
				}
				shut := proxytest.PeerConfig{Settings: window(0), ManualWindow: true}
				l, c, b := newRig(t, cfg).open(shut, shut, 'x')
				w := <-calls
				if n := w.now.Load(); n != 0 {
					t.Errorf("%d bytes are under way of a stream that has sent one", n)
				}
				l.answer()
				most := relay.DefaultLimits().StreamWindow
				much := proxytest.Pattern(3, most-1)
				for sent := 0; sent < len(much); sent += b.Fill(l.bid, much[sent:]) {
					b.Barrier()
				}
				b.Barrier()
				if n := int(w.now.Load()); n > most || n < most-step {
					t.Errorf("%d bytes are under way of an answer of which %d wait", n, len(much))
				}
				for sent := 0; sent < len(much); sent += c.Fill(l.cid, much[sent:]) {
					c.Barrier()
				}
				c.Barrier()
				if n := int(w.now.Load()); n > 2*most || n < 2*(most-step) {
					t.Errorf("%d bytes are under way where %d wait on each side", n, len(much))
				}
				end.do(l, len(much))
				w.over(t)
				if w.last != 0 || w.now.Load() != 0 || w.least.Load() < 0 {
					t.Errorf("%d bytes were under way at the end, %d later, %d once", w.last, w.now.Load(), w.least.Load())
				}
			})
		})
	}
}

// A body that passes straight through, piece by piece, is nothing that waits.
func TestGaugeHearsNothingOfWhatPassesThrough(t *testing.T) {
	calls := make(chan *weighed, 1)
	l, c, b := newRig(t, rigConfig{router: func(r *rig, s *relay.Stream) {
		w := &weighed{witness: newWitness()}
		calls <- w
		s.Forward(r.backend, s.Header(), w)
	}}).open(proxytest.PeerConfig{}, proxytest.PeerConfig{}, 'x')
	w := <-calls
	l.answer()
	piece := proxytest.Pattern(3, 16<<10)
	for i := range 100 {
		b.Send(l.bid, piece, false)
		c.Bytes(l.cid, (i+1)*len(piece))
	}
	l.done()
	w.over(t)
	if n := w.calls.Load(); n != 0 {
		t.Errorf("told %d times", n)
	}
}
