package sessions_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// An old session is closed once, by whichever replica, and its engine is told;
// one that was closed before, or is young, is let be.
func TestSessionsAreClosedForTheirAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, other := newManager(t), newManager(t)
		other.Store, other.Deadlines, m.Deadlines = m.memory, m.memory, m.memory
		made := func(name string, age time.Duration) sessions.Session {
			s, err := m.Create(t.Context(), ann, sessions.CreateRequest{Name: name, Options: sessions.Options{MaxAge: age}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		old, closed, young := made("old", time.Hour), made("closed", time.Hour), made("young", 24*time.Hour)
		m.close(t, closed)
		var told []sessions.ID
		m.OnClosed = func(id sessions.ID, why error) {
			if errors.Is(why, sessions.ErrClosed) {
				told = append(told, id)
			}
		}
		other.OnClosed = m.OnClosed
		defer m.run(t)()
		defer other.run(t)()
		time.Sleep(59 * time.Minute)
		if s := m.describe(t, old.ID); s.State != sessions.Active {
			t.Errorf("before its time: %+v", s)
		}
		time.Sleep(2 * time.Minute)
		if s := m.describe(t, old.ID); s.State != sessions.Closed || s.Reason != "its maximum age of 1h0m0s was over" || s.ClosedAt.Sub(s.CreatedAt) > time.Hour+2*time.Second {
			t.Errorf("after its time: %+v", s)
		}
		if s := m.describe(t, closed.ID); s.Reason != "closed by ann" {
			t.Errorf("closed before: %+v", s)
		}
		if s := m.describe(t, young.ID); s.State != sessions.Active {
			t.Errorf("a young one: %+v", s)
		}
		if len(told) != 1 || told[0] != old.ID {
			t.Errorf("streams were cut of %v", told)
		}
		lines := 0
		for _, log := range []*managerTest{m, other} {
			for _, e := range log.log.FilterMessage("audit").All() {
				f := e.ContextMap()
				if f["actor"] == "sconce" && f["action"] == "session.close" && f["session"] == string(old.ID) && f["outcome"] == "done" {
					lines++
				}
			}
		}
		if lines != 1 {
			t.Errorf("%d audit lines, want one", lines)
		}
	})
}

// A registry that is away for a while puts a close off, and no longer.
func TestAgeWaitsForTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		m.Deadlines = m.memory
		s, err := m.Create(t.Context(), ann, sessions.CreateRequest{Options: sessions.Options{MaxAge: time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
		defer m.run(t)()
		m.memory.Fail(sessions.ErrUnavailable)
		time.Sleep(2 * time.Minute)
		m.memory.Fail(nil)
		time.Sleep(2 * time.Second)
		if s := m.describe(t, s.ID); s.State != sessions.Closed {
			t.Errorf("still %+v", s)
		}
	})
}

func (m *managerTest) describe(t *testing.T, id sessions.ID) sessions.Session {
	t.Helper()
	s, err := m.Describe(t.Context(), ann, id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
