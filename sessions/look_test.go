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

// What has failed with its engine is asleep whatever its clients left, unless it cannot be
// woken, or is woken just now: then a query waits that somebody may want to end.
func TestWhatHasFailedIsAsleep(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a, b := l.replica(), l.replica()
		id, final := l.pending("c").ID, l.pending("final").ID
		route := a.lookup(t, id)
		a.lookup(t, final)
		route.OperationDetached("op", time.Now())
		l.launcher.kill("engine-1")
		l.launcher.kill("engine-2")
		time.Sleep(4 * time.Second)
		l.state(id, sessions.Failed)
		s := a.record(t, id)
		want := func(what string, r *gateway, asleep bool) {
			t.Helper()
			if got := r.resolver.Asleep(s); got != asleep {
				t.Errorf("%s: asleep is %v, want %v", what, got, asleep)
			}
		}
		want("an operation was left", a, true)
		want("elsewhere", b, true)
		route.StreamOpened()
		want("a query is open", a, false)
		route.StreamEnded()
		if a.resolver.Asleep(l.get(final)) {
			t.Error("what is never woken is asleep")
		}

		woken := make(chan struct{})
		go func() {
			defer close(woken)
			b.lookup(t, id)
		}()
		time.Sleep(l.launcher.takes / 2)
		want("it is being woken here", b, false)
		s = a.record(t, id)
		want("it is being woken elsewhere", a, false)
		<-woken
		s = a.record(t, id)
		want("it is awake", a, false)
	})
}

// What failed and can be woken is not believed to be so without the registry: what runs on
// the engine that another replica brought up would be taken for ended.
func TestWhatCanBeWokenIsReadAnew(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a := l.replica()
		id := l.pending("c").ID
		a.lookup(t, id)
		l.launcher.kill("engine-1")
		time.Sleep(4 * time.Second)
		failed := a.record(t, id)
		l.memory.Silence(true)
		step(t, l.memory, failed, sessions.Active)
		if s := a.record(t, id); failed.State != sessions.Failed || s.State != sessions.Active {
			t.Errorf("it was %s and is %s", failed.State, s.State)
		}
	})
}

// record is the record of a session, as a request finds it.
func (r *gateway) record(t *testing.T, id sessions.ID) sessions.Session {
	t.Helper()
	s, err := r.resolver.Record(t.Context(), id)
	if err != nil {
		t.Error(err)
	}
	return s
}
