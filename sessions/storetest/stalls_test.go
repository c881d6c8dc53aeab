package storetest

import (
	"testing"
	"testing/synctest"
	"time"
)

// The meter sees a process that does not run, also before it runs itself, and nothing
// where all is well.
func TestStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := MeterStalls(t)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if stall := s.Longest(); stall != 0 {
			t.Errorf("%v without a stall", stall)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := &Stalls{seen: time.Now()} // the meter itself stands still, too
		time.Sleep(3 * time.Second)
		if stall := s.Longest(); stall != 3*time.Second-stallEvery {
			t.Errorf("%v before the meter ran", stall)
		}
		s.ran(time.Now())
		time.Sleep(stallEvery)
		s.ran(time.Now())
		if stall := s.Longest(); stall != 3*time.Second-stallEvery {
			t.Errorf("%v once it ran again", stall)
		}
	})
}
