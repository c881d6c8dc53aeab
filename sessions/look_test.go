package sessions_test

import (
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// A look at what was before, however long it takes, keeps nothing awake; what is done
// beside it does.
func TestLooksKeepNothingAwake(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a := l.replica()
		s := l.pending("c")
		route := a.lookup(t, s.ID)
		route.LookOpened()
		route.StreamOpened()
		time.Sleep(3 * idleAfter)
		l.state(s.ID, sessions.Active)
		if n := route.Streams(); n != 2 {
			t.Errorf("%d streams are open, want 2", n)
		}
		route.StreamEnded()
		time.Sleep(2 * idleAfter)
		l.state(s.ID, sessions.Idle)
		route.LookEnded()
		if n := route.Streams(); n != 0 {
			t.Errorf("%d streams are open, want none", n)
		}
	})
}
