package relay_test

import (
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
)

// TestIdleBackendKeepsNoClient: a connection to an engine that nobody uses must not keep
// the last client's connection in memory, which is gone, with buffers of half a MiB.
func TestIdleBackendKeepsNoClient(t *testing.T) {
	seen := make(chan weak.Pointer[relay.Peer], 1)
	r := newRig(t, rigConfig{router: func(r *rig, s *relay.Stream) {
		seen <- weak.Make(s.Peer()) // it is part of the connection
		s.Forward(r.backend, s.Header(), nil)
	}})
	c := r.client(proxytest.PeerConfig{})
	id := c.Open(proxytest.Call(method), true)
	b := r.accept(proxytest.PeerConfig{})
	b.Headers(b.Accept().ID, true, trailersOnly("0")...)
	c.Response(id)
	c.Close()
	b.Barrier()
	for late, client := time.Now().Add(10*time.Second), <-seen; client.Value() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("the connection of a client that is gone is still in memory")
		}
		runtime.GC()
	}
	b.Barrier() // the engine's stands
}
