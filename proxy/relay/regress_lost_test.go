package relay_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
)

// Both connections of open streams die at the same moment, and the backend is closed: how each stream ended is
// settled by whoever came first, and not changed after that. The race detector watches.
func TestBothConnectionsDieAtOnce(t *testing.T) {
	for i := range 100 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r := newRig(t, rigConfig{})
			l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
			l.answer()
			for range 80 {
				l.next().answer()
			}
			c.Barrier()
			var both sync.WaitGroup
			both.Go(c.Close)
			both.Go(b.Close)
			both.Go(r.backend.Close)
			both.Wait()
			r.stop()
			if _, streams := r.server.Open(); streams != 0 {
				t.Errorf("%d streams are left", streams)
			}
		})
	}
}
