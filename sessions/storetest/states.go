package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

var states = []sessions.State{sessions.Pending, sessions.Active, sessions.Idle, sessions.Failed, sessions.Closed}

// in returns a new session in that state.
func (s *suite) in(t failer, state sessions.State) sessions.Session {
	t.Helper()
	made := s.create(t, "ann", "")
	switch state {
	case sessions.Active, sessions.Failed, sessions.Closed:
		return s.step(t, made, state)
	case sessions.Idle:
		return s.step(t, s.step(t, made, sessions.Active), sessions.Idle)
	}
	return made
}

func testEveryTransition(t *testing.T, s *suite) {
	for _, from := range states {
		for _, to := range states {
			before := s.in(t, from)
			tr := s.transition(before, to)
			after, err := s.Transition(t.Context(), before.ID, tr)
			switch {
			case from.May(to):
				must(t, err)
				checkStep(t, before, tr, after)
			case err == nil:
				t.Errorf("%s became %s", from, to)
			default:
				wantError(t, err, sessions.ErrConflict)
				found, err := s.Get(t.Context(), before.ID)
				must(t, err)
				wantSession(t, found[0], before)
			}
		}
	}
}

// checkStep compares a record with what one transition should have made of it.
func checkStep(t failer, before sessions.Session, tr sessions.Transition, after sessions.Session) {
	t.Helper()
	want := before
	want.State, want.Reason, want.ChangedAt, want.Revision = tr.To, tr.Reason, tr.At, after.Revision
	if tr.To == sessions.Active {
		want.Generation++
	}
	if tr.To == sessions.Idle {
		want.IdleAt = tr.At
	}
	if tr.To == sessions.Closed {
		want.ClosedAt = tr.At
	}
	wantSession(t, after, want)
}

func testRevisionGrows(t *testing.T, s *suite) {
	before := s.create(t, "ann", "a")
	for _, to := range []sessions.State{sessions.Active, sessions.Idle, sessions.Active, sessions.Failed, sessions.Closed} {
		after := s.step(t, before, to)
		if after.Revision <= before.Revision {
			t.Errorf("revision %d after %d", after.Revision, before.Revision)
		}
		before = after
	}
}

func testTransitionOfOtherTimes(t *testing.T, s *suite) {
	first := s.active(t, "ann", "a")
	second := s.step(t, s.step(t, first, sessions.Idle), sessions.Active)
	if second.Generation != first.Generation+1 {
		t.Fatalf("generation %d after %d", second.Generation, first.Generation)
	}
	_, err := s.Transition(t.Context(), first.ID, s.transition(first, sessions.Idle))
	wantError(t, err, sessions.ErrConflict)
	pending := first
	pending.State = sessions.Pending
	_, err = s.Transition(t.Context(), first.ID, s.transition(pending, sessions.Failed))
	wantError(t, err, sessions.ErrConflict)
	found, err := s.Get(t.Context(), first.ID)
	must(t, err)
	wantSession(t, found[0], second)
}

func testTransitionOfNone(t *testing.T, s *suite) {
	none := s.session(t, "ann", "none")
	_, err := s.Transition(t.Context(), none.ID, s.transition(none, sessions.Active))
	wantError(t, err, sessions.ErrNotFound)
	_, err = s.Transition(t.Context(), "no id", sessions.CloseAt(s.now, ""))
	wantError(t, err, sessions.ErrNotFound)
}

func testCloseIsFinal(t *testing.T, s *suite) {
	open := s.active(t, "ann", "a")
	closed, err := s.Transition(t.Context(), open.ID, sessions.CloseAt(s.now, "by its owner"))
	must(t, err)
	again, err := s.Transition(t.Context(), open.ID, sessions.CloseAt(s.now.Add(time.Hour), "again"))
	must(t, err)
	wantSession(t, again, closed)
	for _, to := range []sessions.State{sessions.Idle, sessions.Failed} {
		_, err := s.Transition(t.Context(), open.ID, s.transition(open, to))
		wantError(t, err, sessions.ErrClosed)
	}
}

// watch hears of changes until stop is called.
func (s *suite) watch(t *testing.T) (heard chan sessions.Change, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	heard = make(chan sessions.Change, 100)
	watcher := s.open(t)
	go func() {
		ended <- watcher.Watch(ctx, func() { close(ready) }, func(c sessions.Change) { heard <- c })
	}()
	<-ready
	return heard, func() {
		cancel()
		if err := <-ended; err == nil {
			t.Error("Watch ended without an error")
		}
	}
}

func testWatch(t *testing.T, s *suite) {
	heard, stop := s.watch(t)
	defer stop()
	made := s.create(t, "ann", "a")
	for _, to := range []sessions.State{sessions.Active, sessions.Idle, sessions.Closed} {
		made = s.step(t, made, to)
		want := sessions.Change{ID: made.ID, State: to, Generation: made.Generation, Revision: made.Revision}
		if got := nextOf(heard, made.ID); got != want {
			t.Errorf("heard %+v, want %+v", got, want)
		}
	}
}

// nextOf skips the news of other tests' sessions, which share the server.
func nextOf(heard <-chan sessions.Change, id sessions.ID) sessions.Change {
	for c := range heard {
		if c.ID == id {
			return c
		}
	}
	return sessions.Change{}
}
