package proxy

import (
	"context"
	"sync"
	"time"
)

// How long accepting pauses after a failure for want of file descriptors, from the
// first to the next; and when an Accept that has not returned is one that waits.
const (
	firstPause  = 5 * time.Millisecond
	mostPause   = time.Second
	acceptWaits = 100 * time.Millisecond
)

// stall is a run of accepts that failed for want of file descriptors.
//
// It is over when a connection is accepted, and when Accept waits for one: accept(2)
// takes its descriptor first, so where there is none it fails at once, whether
// somebody waits or not. Only the second would do for a port that nobody comes to,
// which is what a balancer makes of one that says it is not ready.
type stall struct {
	tell func(error) // err, and nil when it is over

	mu    sync.Mutex
	on    bool
	fails int           // in all runs; tells an old timer from the current one
	pause time.Duration // the last
}

// wait is told of a failure, and waits before the next try; false = ctx ended first.
func (s *stall) wait(ctx context.Context, err error) bool {
	pause, fails := s.fail(err)
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		time.AfterFunc(acceptWaits, func() { s.overSince(fails) })
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *stall) fail(err error) (pause time.Duration, fails int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on, s.fails = true, s.fails+1
	s.pause = min(max(2*s.pause, firstPause), mostPause)
	s.tell(err)
	return s.pause, s.fails
}

// over ends the run, if there is one.
func (s *stall) over() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
}

// overSince is over, unless something failed since there were this many failures.
func (s *stall) overSince(fails int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails == fails {
		s.end()
	}
}

func (s *stall) end() {
	if s.on {
		s.on, s.pause = false, 0
		s.tell(nil)
	}
}
