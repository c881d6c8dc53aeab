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

// What became idle while it was in use here is not asleep: who ends something of it ends
// something that runs.
func TestWhatIsInUseIsNotAsleep(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a, b := l.replica(), l.replica()
		id := l.pending("c").ID
		route := a.lookup(t, id)
		s := step(t, l.memory, l.get(id), sessions.Idle)
		want := func(what string, asleep bool) {
			t.Helper()
			if got := a.resolver.Asleep(s); got != asleep {
				t.Errorf("%s: asleep is %v, want %v", what, got, asleep)
			}
			if !b.resolver.Asleep(s) {
				t.Errorf("%s: where nothing of it was it is not asleep", what)
			}
		}
		want("unused", true)
		route.LookOpened()
		want("a look is open", true)
		route.LookEnded()
		route.StreamOpened()
		want("a query is open", false)
		route.OperationDetached("op", time.Now())
		route.StreamEnded()
		want("its operation is not released", false)
		route.OperationReleased("op")
		want("it is released", true)
	})
}
