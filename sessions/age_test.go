package sessions_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
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

// A session that nobody uses any more is closed some day, and no other.
func TestUnusedSessionsAreClosed(t *testing.T) {
	const after = 10 * 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		cs, err := sessions.NewClusters([]sessions.Cluster{
			{Name: "c", Launcher: newLauncher(), Policy: sessions.ClusterPolicy{CloseUnusedAfter: after}},
			{Name: "address", Address: "127.0.0.1:1", Policy: sessions.ClusterPolicy{CloseUnusedAfter: after}},
			{Name: "never", Launcher: newLauncher()},
		})
		if err != nil {
			t.Fatal(err)
		}
		m := newManagerOn(t, cs)
		m.Deadlines = m.memory
		made := func(name, cluster string, age time.Duration) sessions.Session {
			t.Helper()
			s, err := m.Create(t.Context(), ann, sessions.CreateRequest{Name: name, Cluster: cluster, Options: sessions.Options{MaxAge: age}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		becomes := func(s sessions.Session, state sessions.State) {
			t.Helper()
			if _, err := m.memory.Transition(t.Context(), s.ID, sessions.Transition{From: s.State, Generation: s.Generation, To: state, At: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		idle, failed, awake, used := made("idle", "c", 0), made("failed", "c", 0), made("awake", "c", 0), made("used", "c", 0)
		young, old := made("young", "c", 5*24*time.Hour), made("old", "c", 100*24*time.Hour)
		elsewhere, busy, kept := made("elsewhere", "address", 0), made("busy", "address", 0), made("kept", "never", 0)
		for _, s := range []sessions.Session{idle, used, young, old, kept} {
			becomes(s, sessions.Idle)
		}
		becomes(failed, sessions.Failed)
		defer m.run(t)()
		want := func(s sessions.Session, state sessions.State, reason string, expires time.Duration) {
			t.Helper()
			now := m.describe(t, s.ID)
			if now.State != state || reason != "" && now.Reason != reason {
				t.Errorf("after %s %s is %s (%s), want %s (%s)", time.Since(s.CreatedAt), s.Name, now.State, now.Reason, state, reason)
			}
			if at := m.Expires(now); expires == 0 && !at.IsZero() || expires != 0 && at.Sub(s.CreatedAt).Round(time.Minute) != expires {
				t.Errorf("after %s %s expires %s after its creation, want %s", time.Since(s.CreatedAt), s.Name, at.Sub(s.CreatedAt), expires)
			}
		}
		time.Sleep(9 * 24 * time.Hour)
		if _, err := m.memory.Touch(t.Context(), []sessions.Use{{ID: used.ID}, {ID: busy.ID}}); err != nil {
			t.Fatal(err)
		}
		want(idle, sessions.Idle, "", after)
		want(young, sessions.Closed, "its maximum age of 120h0m0s was over", 0)
		want(used, sessions.Idle, "", 19*24*time.Hour)
		want(elsewhere, sessions.Active, "", 0)
		time.Sleep(2 * 24 * time.Hour)
		const unused = "nobody had used it for 240h0m0s"
		want(idle, sessions.Closed, unused, 0)
		want(failed, sessions.Closed, unused, 0)
		want(old, sessions.Closed, unused, 0)
		want(elsewhere, sessions.Closed, unused, 0)
		want(used, sessions.Idle, "", 19*24*time.Hour)
		want(busy, sessions.Active, "", 0)
		want(awake, sessions.Active, "", 0)
		time.Sleep(10 * 24 * time.Hour)
		want(used, sessions.Closed, unused, 0)
		want(busy, sessions.Closed, unused, 0)
		want(awake, sessions.Active, "", 0)
		want(kept, sessions.Idle, "", 0)
	})
}

// Of a create that was cut short nothing is left in a few minutes, and one that was closed
// while it was looked at is looked at no more.
func TestLooksAtSessionsThatAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := withPolicy(t, sessions.ClusterPolicy{CloseUnusedAfter: 24 * time.Hour})
		m.Deadlines = m.memory
		m.Store = noCreate{m.memory}
		if _, err := m.Create(t.Context(), ann, sessions.CreateRequest{}); !errors.Is(err, sessions.ErrUnavailable) {
			t.Fatal(err)
		}
		m.Store = m.memory
		kept := m.create(t, ann, "kept")
		defer m.run(t)()
		time.Sleep(3 * time.Minute)
		due, err := m.memory.TakeDue(t.Context(), time.Now().Add(48*time.Hour), time.Now().Add(48*time.Hour), 10)
		if err != nil || len(due) != 1 || due[0] != kept.ID {
			t.Errorf("to be looked at are %v, %v", due, err)
		}
	})
}

// noCreate is a registry that goes away before a session is recorded.
type noCreate struct{ *storetest.Memory }

func (noCreate) Create(context.Context, sessions.Session, string) (sessions.Session, error) {
	return sessions.Session{}, sessions.ErrUnavailable
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

// halfway closes, and the first time does nothing but that.
type halfway struct {
	*storetest.Memory
	closes atomic.Int32
}

func (h *halfway) Transition(ctx context.Context, id sessions.ID, t sessions.Transition) (sessions.Session, error) {
	if h.closes.Add(1) > 1 {
		return h.Memory.Transition(ctx, id, t)
	}
	found, err := h.Get(ctx, id)
	if err != nil {
		return sessions.Session{}, err
	}
	s := found[0]
	s.State, s.Reason = sessions.Closed, t.Reason
	h.Put(s)
	return s, sessions.ErrUnavailable
}

// A close for age that was cut short is done to its end, once.
func TestCloseForAgeIsFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		m.Deadlines = m.memory
		s, err := m.Create(t.Context(), ann, sessions.CreateRequest{Options: sessions.Options{MaxAge: time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
		store := &halfway{Memory: m.memory}
		m.Store = store
		defer m.run(t)()
		time.Sleep(time.Minute + 2*time.Second)
		if s := m.describe(t, s.ID); s.State != sessions.Closed || store.closes.Load() != 1 {
			t.Errorf("closed %d times: %+v", store.closes.Load(), s)
		}
		time.Sleep(5 * time.Minute)
		if s := m.describe(t, s.ID); store.closes.Load() != 2 || s.Reason != "its maximum age of 1m0s was over" {
			t.Errorf("closed %d times: %+v", store.closes.Load(), s)
		}
		if due, err := m.memory.TakeDue(t.Context(), time.Now().Add(time.Hour), time.Now(), 10); err != nil || len(due) > 0 {
			t.Errorf("due are %v, %v", due, err)
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
