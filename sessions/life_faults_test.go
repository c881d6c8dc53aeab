package sessions_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// What TestLifeAgainstModel found once, each by itself.

// once calls do the first time.
func once(do func()) func() {
	var done atomic.Bool
	return func() {
		if done.CompareAndSwap(false, true) {
			do()
		}
	}
}

// An engine dies under a wake, and another is up in its place before that is done.
func TestEngineIsReplacedUnderAWake(t *testing.T) {
	inLife(t, sessions.IsolateNone, func(t *testing.T, l *life) {
		a, b := l.replica(), l.replica()
		s, other := l.pending("c"), l.pending("c")
		l.restores = once(func() {
			l.launcher.kill("engine-1")
			l.memory.StealAll() // so that its record may go
			time.Sleep(3 * time.Second)
			b.lookup(t, other.ID)
		})
		route := a.lookup(t, s.ID)
		if in := route.Session.Engine; l.launcher.Alive(t.Context(), *in) != nil {
			t.Errorf("it is led to %s, which is dead", in.ID)
		}
	})
}

// Who was overtaken while it brought state back leaves the engine alone, on which
// the other one has the session active.
func TestOvertakenWhileRestoring(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a, b := l.replica(), l.replica()
		s := l.pending("c")
		l.restores = once(func() {
			l.memory.StealAll()
			b.lookup(t, s.ID)
		})
		a.lookup(t, s.ID)
		time.Sleep(time.Minute / 2)
		l.state(s.ID, sessions.Active)
		l.engines(1, 1)
	})
}

// The sweep comes by while a session wakes that was idle for long.
func TestSweepLeavesAWakeAlone(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a := l.replica()
		s := l.pending("c")
		time.Sleep(time.Hour)
		l.restores = func() { time.Sleep(45 * time.Second) }
		a.lookup(t, s.ID)
		l.state(s.ID, sessions.Active)
		l.engines(1, 1)
	})
}

// deaf loses the answer to the first step to active.
type deaf struct {
	*storetest.Memory
	lost atomic.Bool
}

func (d *deaf) Transition(ctx context.Context, id sessions.ID, t sessions.Transition) (sessions.Session, error) {
	s, err := d.Memory.Transition(ctx, id, t)
	if t.To == sessions.Active && d.lost.CompareAndSwap(false, true) {
		return sessions.Session{}, sessions.ErrUnavailable
	}
	return s, err
}

// A session that is active, and who made it so does not know, keeps its engine.
func TestAnswerIsLost(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		waker, err := sessions.NewWaker(sessions.WakerConfig{Store: &deaf{Memory: l.memory}, Engine: &engine{}, Clusters: l.clusters})
		if err != nil {
			t.Fatal(err)
		}
		defer waker.Close()
		s := l.pending("c")
		if err := waker.Wake(t.Context(), s); err != nil {
			t.Error(err)
		}
		l.state(s.ID, sessions.Active)
		l.engines(1, 1)
	})
}

// The registry goes away between the end of an engine and the word of it.
func TestEngineEndsAndRegistryGoes(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		mute := &mute{Memory: l.memory}
		waker, err := sessions.NewWaker(sessions.WakerConfig{Store: mute, Engine: &engine{}, Clusters: l.clusters})
		if err != nil {
			t.Fatal(err)
		}
		defer waker.Close()
		reaper, err := sessions.NewReaper(sessions.ReaperConfig{Store: mute, Waker: waker, Clusters: l.clusters})
		if err != nil {
			t.Fatal(err)
		}
		s := l.pending("c")
		if err := waker.Wake(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		mute.from.Store(true)
		l.launcher.kill("engine-1")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_ = reaper.Run(ctx) // and it dies
		l.replica()
		time.Sleep(5 * time.Second)
		l.state(s.ID, sessions.Failed)
	})
}

// mute fails every step out of active.
type mute struct {
	*storetest.Memory
	from atomic.Bool
}

func (m *mute) Transition(ctx context.Context, id sessions.ID, t sessions.Transition) (sessions.Session, error) {
	if m.from.Load() && t.From == sessions.Active {
		return sessions.Session{}, sessions.ErrUnavailable
	}
	return m.Memory.Transition(ctx, id, t)
}

// A create that was overtaken is as good as the wake that overtook it.
func TestCreateIsOvertaken(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a, b := l.replica(), l.replica()
		m, err := sessions.NewManager(sessions.ManagerConfig{
			Store: l.memory, Tokens: l.memory, Engine: &engine{}, Issuer: noIssuer{}, Waker: a.waker, Clusters: l.clusters,
		})
		if err != nil {
			t.Fatal(err)
		}
		l.launcher.launched = once(func() {
			l.memory.StealAll()
			page, err := l.memory.List(t.Context(), sessions.Query{Org: "acme", Limit: 1})
			if err != nil || len(page.Sessions) != 1 {
				t.Fatal(page, err)
			}
			b.lookup(t, page.Sessions[0].ID)
		})
		s, err := m.Create(t.Context(), sessions.Actor{Subject: "ann", Org: "acme"}, sessions.CreateRequest{Cluster: "c"})
		if err != nil || s.State != sessions.Active {
			t.Errorf("%s, %v", s.State, err)
		}
		l.engines(2, 1)
	})
}
