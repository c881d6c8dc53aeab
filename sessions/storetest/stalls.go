package storetest

import (
	"sync"
	"testing"
	"time"
)

// Stalls tells how long the test's own process did not get to run. A promise in seconds is
// one about Sconce and not about a machine that stands still: a test that holds it in real
// time grants that much more.
type Stalls struct {
	mu      sync.Mutex
	seen    time.Time // when the meter last ran
	longest time.Duration
}

const stallEvery = 10 * time.Millisecond

// MeterStalls measures from now until the test ends.
func MeterStalls(t testing.TB) *Stalls {
	s, stop, done := &Stalls{seen: time.Now()}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(stallEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.ran(time.Now())
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return s
}

// ran notes that the meter ran.
func (s *Stalls) ran(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest, s.seen = max(s.longest, now.Sub(s.seen)-stallEvery), now
}

// Longest is the longest time for which the process did not run, up to now.
func (s *Stalls) Longest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.longest, time.Since(s.seen)-stallEvery) // who asks may run before the meter
}
