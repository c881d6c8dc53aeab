package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// run runs m until the function it returns is called, which waits for its end.
func (m *managerTest) run(t *testing.T) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	synctest.Wait()
	return func() error { cancel(); return <-ended }
}

// used makes a session of Ann's that a Spark session is bound to.
func (m *managerTest) used(t *testing.T, name string) (sessions.Session, sessions.SparkID) {
	t.Helper()
	s, spark := m.create(t, ann, name), sessions.SparkID(uuid.NewString())
	if err := m.memory.Bind(t.Context(), s.ID, spark); err != nil {
		t.Fatal(err)
	}
	return s, spark
}

// close closes a session at once, whatever its engine does.
func (m *managerTest) close(t *testing.T, s sessions.Session) sessions.Session {
	t.Helper()
	began := time.Now()
	closed, err := m.Close(t.Context(), ann, s.ID)
	if err != nil || closed.State != sessions.Closed || time.Since(began) != 0 {
		t.Errorf("closed %+v, %v after %s", closed, err, time.Since(began))
	}
	return closed
}

func (m *managerTest) wantReleases(t *testing.T, want int) {
	t.Helper()
	synctest.Wait()
	m.engine.mu.Lock()
	defer m.engine.mu.Unlock()
	if m.engine.releases != want {
		t.Errorf("the engine was told %d times, want %d", m.engine.releases, want)
	}
}

// wantUntold wants a line in the log for each of so many closes that an engine
// does not know of.
func (m *managerTest) wantUntold(t *testing.T, want int) {
	t.Helper()
	synctest.Wait()
	if n := m.log.FilterMessageSnippet("not told").Len(); n != want {
		t.Errorf("%d lines say that an engine was not told, want %d", n, want)
	}
}

// Closed is recorded, then the streams are cut, then the caller has the answer,
// and when the other replicas have cut theirs too the engine is told.
func TestCloseCutsBeforeItReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		s, spark := m.used(t, "a")
		var cut []sessions.ID
		m.OnClosed = func(id sessions.ID, why error) {
			if found, err := m.memory.Get(t.Context(), id); err != nil || found[0].State != sessions.Closed || !errors.Is(why, sessions.ErrClosed) {
				t.Errorf("cut when the record says %+v, %v, with %v", found, err, why)
			}
			m.wantReleases(t, 0)
			cut = append(cut, id)
		}
		stop := m.run(t)
		closed, err := m.Close(t.Context(), admin, s.ID)
		if err != nil || closed.State != sessions.Closed || closed.Reason != "closed by root" || closed.ClosedAt.IsZero() {
			t.Errorf("closed %+v, %v", closed, err)
		}
		if !slices.Equal(cut, []sessions.ID{s.ID}) {
			t.Errorf("cut %v when it was closed", cut)
		}
		time.Sleep(2*time.Second - time.Nanosecond)
		m.wantReleases(t, 0)
		time.Sleep(time.Nanosecond)
		m.wantReleases(t, 1)
		if want := []string{"c ann " + string(spark)}; !slices.Equal(m.engine.released, want) {
			t.Errorf("released %v, want %v", m.engine.released, want)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		m.wantUntold(t, 0)
	})
}

func TestCloseAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		s, _ := m.used(t, "a")
		cuts := 0
		m.OnClosed = func(sessions.ID, error) { cuts++ }
		stop := m.run(t)
		first := m.close(t, s)
		time.Sleep(time.Hour)
		if again := m.close(t, s); again != first || cuts != 2 {
			t.Errorf("closed again: %+v, streams cut %d times", again, cuts)
		}
		time.Sleep(2 * time.Second)
		m.wantReleases(t, 2)
		_ = stop()
	})
}

// A session that this replica hears of late is released like one that it closed, and
// nothing else of it is done again.
func TestReleaseOfASessionThatOthersClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		s, spark := m.used(t, "a")
		m.OnClosed = func(sessions.ID, error) { t.Error("cut by the manager") }
		closed, err := m.memory.Transition(t.Context(), s.ID, sessions.CloseAt(time.Now(), "elsewhere"))
		if err != nil {
			t.Fatal(err)
		}
		stop := m.run(t)
		m.Release(closed)
		time.Sleep(2*time.Second - time.Nanosecond)
		m.wantReleases(t, 0)
		time.Sleep(time.Nanosecond)
		m.wantReleases(t, 1)
		if want := []string{"c ann " + string(spark)}; !slices.Equal(m.engine.released, want) {
			t.Errorf("released %v, want %v", m.engine.released, want)
		}
		_ = stop()
		m.Release(closed)
		m.wantUntold(t, 1)
		m.wantReleases(t, 1)
	})
}

func TestCloseOfAnUnusedSessionAsksNoEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		stop := m.run(t)
		m.close(t, m.create(t, ann, "unused"))
		time.Sleep(time.Minute)
		m.wantReleases(t, 0)
		m.wantUntold(t, 0)
		_ = stop()
	})
}

// The engine's silence keeps no session open and no owner waiting, and it is said.
func TestCloseDespiteItsEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		m.engine.hang = true
		stop := m.run(t)
		s, _ := m.used(t, "a")
		m.close(t, s)
		time.Sleep(4 * time.Second)
		m.wantReleases(t, 1)
		time.Sleep(75*time.Second - time.Nanosecond) // it is tried seven times
		m.wantReleases(t, 7)
		m.wantUntold(t, 0)
		time.Sleep(time.Nanosecond)
		m.wantUntold(t, 1)
		line := m.log.FilterMessageSnippet("not told").All()[0].ContextMap()
		if line["session"] != string(s.ID) || line["cluster"] != "c" || line["error"] != context.DeadlineExceeded.Error() {
			t.Errorf("the log says %v", line)
		}
		_ = stop()
	})
}

// An engine hears of a close also where it, or the registry, was away when it was to.
func TestEngineHearsOfACloseLater(t *testing.T) {
	for name, away := range map[string]func(m *managerTest, is bool){
		"the engine": func(m *managerTest, is bool) {
			m.engine.mu.Lock()
			defer m.engine.mu.Unlock()
			m.engine.hang = is
		},
		"the registry": func(m *managerTest, is bool) {
			var err error
			if is {
				err = sessions.ErrUnavailable
			}
			m.memory.Fail(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				stop := m.run(t)
				s, spark := m.used(t, "a")
				m.close(t, s)
				away(m, true)
				time.Sleep(20 * time.Second)
				away(m, false)
				time.Sleep(20 * time.Second)
				m.wantUntold(t, 0)
				if want := []string{"c ann " + string(spark)}; !slices.Equal(m.engine.released, want) {
					t.Errorf("released %v, want %v", m.engine.released, want)
				}
				_ = stop()
			})
		})
	}
}

func TestEndOfRunReleasesWhatWaits(t *testing.T) {
	for _, c := range []struct {
		name   string
		hang   bool
		takes  time.Duration
		untold int
	}{
		{"the engine answers", false, 0, 0},
		{"the engine hangs", true, 2 * time.Second, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				m.engine.hang = c.hang
				stop := m.run(t)
				for i := range 200 { // more than are released at a time
					s, _ := m.used(t, fmt.Sprint(i))
					m.close(t, s)
				}
				time.Sleep(time.Second)
				m.wantReleases(t, 0)
				began := time.Now()
				_ = stop()
				if took := time.Since(began); took != c.takes {
					t.Errorf("it took %s, want %s", took, c.takes)
				}
				if !c.hang {
					m.wantReleases(t, 200)
				}
				m.wantUntold(t, c.untold)
			})
		})
	}
}

// The time at the end is for all, those that are being released already too.
func TestEndOfRunWaitsForWhatHasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		m.engine.hang = true
		stop := m.run(t)
		s, _ := m.used(t, "a")
		m.close(t, s)
		time.Sleep(3 * time.Second)
		m.wantReleases(t, 1)
		began := time.Now()
		_ = stop()
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %s", took)
		}
		m.wantUntold(t, 1)
	})
}

func TestCloseBeforeRunAndAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		early, _ := m.used(t, "early")
		m.close(t, early)
		stop := m.run(t)
		time.Sleep(2 * time.Second)
		m.wantReleases(t, 1)
		_ = stop()
		late, _ := m.used(t, "late")
		cut := false
		m.OnClosed = func(sessions.ID, error) { cut = true }
		m.close(t, late)
		if !cut {
			t.Error("not cut")
		}
		m.wantReleases(t, 1)
		m.wantUntold(t, 1)
	})
}

// untidy closes, and then the registry goes away.
type untidy struct{ *storetest.Memory }

func (u untidy) Transition(ctx context.Context, id sessions.ID, t sessions.Transition) (sessions.Session, error) {
	s, err := u.Memory.Transition(ctx, id, t)
	return s, errors.Join(err, sessions.ErrUnavailable)
}

func TestClosedWithAnErrorIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		stop := m.run(t)
		s, _ := m.used(t, "a")
		m.Store = untidy{m.memory}
		cut := false
		m.OnClosed = func(sessions.ID, error) { cut = true }
		if _, err := m.Close(t.Context(), ann, s.ID); !errors.Is(err, sessions.ErrUnavailable) || !cut {
			t.Errorf("cut %v, error %v", cut, err)
		}
		_ = stop()
		m.wantReleases(t, 1)
	})
}

func TestCloseThatFailsEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		stop := m.run(t)
		s, _ := m.used(t, "a")
		m.OnClosed = func(sessions.ID, error) { t.Error("cut") }
		m.memory.Fail(sessions.ErrUnavailable)
		if _, err := m.Close(t.Context(), ann, s.ID); !errors.Is(err, sessions.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
		if _, err := m.Close(t.Context(), bob, s.ID); err == nil {
			t.Error("closed by a stranger")
		}
		m.memory.Fail(nil)
		_ = stop()
		m.wantReleases(t, 0)
	})
}
