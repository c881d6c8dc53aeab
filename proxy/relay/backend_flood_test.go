package relay_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
)

// floodedRig has two backends: a good one, for calls of /good, and one that floods
// every connection it is given while round is odd, until the next round.
type floodedRig struct {
	*rig
	round  atomic.Int64
	times  atomic.Int64 // it began
	stop   chan struct{}
	ending sync.WaitGroup
}

// newFloodedRig runs until the test ends. do floods a connection, and answers the
// stream or not, until flood says that it is enough.
func newFloodedRig(t *testing.T, do proxytest.Flood) *floodedRig {
	t.Helper()
	served := proxytest.TCP(t)
	good, err := relay.NewBackend(relay.BackendConfig{Name: "good", Dial: func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", served.Addr().String())
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(good.Close)
	f := &floodedRig{stop: make(chan struct{})}
	f.rig = newRig(t, rigConfig{tcp: true, router: func(r *rig, s *relay.Stream) {
		if s.Header().Get(":path") == "/good" {
			s.Forward(good, s.Header(), nil)
			return
		}
		s.Forward(r.backend, s.Header(), newWitness())
	}})
	f.ending.Go(func() { f.callers() })
	f.ending.Go(func() { f.backends(do) })
	t.Cleanup(func() {
		close(f.stop)
		f.ending.Wait()
	})
	go func() { // its calls are answered at once
		conn, err := served.Accept()
		if err != nil {
			return
		}
		if b, ok := proxytest.TryServer(t, conn, proxytest.PeerConfig{}); ok {
			b.OnOpen(func(s proxytest.Stream) { b.Headers(s.ID, true, trailersOnly("0")...) })
		}
	}()
	return f
}

// callers calls the flooding backend again and again, as often over a new connection
// as the relay ends the last.
func (f *floodedRig) callers() {
	for {
		foe := proxytest.NewFoe(f.connect(), false)
		for foe.Flush() {
			select {
			case <-f.stop:
				foe.Close()
				return
			case <-time.After(time.Millisecond):
			}
			foe.Open(proxytest.Call(method), true)
		}
		foe.Close()
	}
}

func (f *floodedRig) backends(do proxytest.Flood) {
	for {
		select {
		case <-f.stop:
			return
		case conn := <-f.dialed:
			b, ok := proxytest.TryServer(f.t, conn, proxytest.PeerConfig{Lenient: true, ManualWindow: true, Discard: true})
			if !ok {
				continue
			}
			f.one(b, do)
			b.Close()
		}
	}
}

// one floods a connection until it is over.
func (f *floodedRig) one(b *proxytest.Peer, do proxytest.Flood) {
	for b.Err() == nil && !b.Closed() {
		if s, came := b.TryAccept(); came {
			round := f.round.Load()
			if round%2 == 0 {
				b.Headers(s.ID, true, trailersOnly("0")...)
				continue
			}
			f.times.Add(1)
			do(b, s.ID, func(send func()) {
				for f.round.Load() == round && b.Err() == nil && !b.Closed() {
					send()
				}
			})
			continue
		}
		select {
		case <-f.stop:
			return
		case <-time.After(100 * time.Microsecond):
		}
	}
}

// Whatever an engine does to the relay, the calls that go to another engine are served
// as before, and nothing grows. TestHostileBackend has what becomes of its own calls.
func TestFloodsOfABackendLeaveTheOthersAlone(t *testing.T) {
	// In medians. Who floods is in this process, and under -race costs more than what it floods.
	const mostSlower = 10
	for name, do := range proxytest.EngineFloods() {
		t.Run(name, func(t *testing.T) {
			f := newFloodedRig(t, do)
			c := f.client(proxytest.PeerConfig{Discard: true})
			calls := 0
			work := func() {
				calls++
				if got := c.Response(c.Open(proxytest.Call("/good"), true)); got.Header("grpc-status") != "0" {
					t.Errorf("a call to the other backend read %v, reset=%v", got.Blocks, got.Reset)
				}
			}
			work()
			before := goroutines()
			var idle, flooded proxytest.Pace
			slowed := func() bool { return !proxytest.Raced && flooded.Median()*mostSlower < idle.Median() }
			grown := heapGrowth(func() {
				// Slices are added until the medians say what they have to, or never will.
				for n := 0; n < 3 || n < 20 && slowed(); n++ {
					idle.Take(work)
					before, begun := f.times.Load(), time.Now()
					f.round.Add(1)
					for f.times.Load() == before && time.Since(begun) < proxytest.Patience {
						work()
					}
					if f.times.Load() == before {
						t.Fatal("no flood began")
					}
					flooded.Take(work)
					f.round.Add(1)
				}
			})
			t.Logf("%d calls in place of %d, %d KiB, %d floods", flooded.Median(), idle.Median(), grown>>10, f.times.Load())
			if slowed() {
				t.Errorf("%v calls to another backend in place of %v", flooded, idle)
			}
			// Both ends of the good calls keep what they read.
			if n := goroutines(); grown > 8<<20+calls*2<<10 || n > before+50 {
				t.Errorf("the heap grew by %d KiB; %d goroutines, %d before", grown>>10, n, before)
			}
		})
	}
}
