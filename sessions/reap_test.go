package sessions_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// The sessions of a cluster that is no longer configured, however many are due, keep
// nobody else awake.
func TestForgottenClusterKeepsNobodyAwake(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		for range 300 {
			if err := l.memory.Schedule(t.Context(), l.pending("removed").ID, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		a := l.replica()
		s := l.pending("c")
		a.lookup(t, s.ID)
		time.Sleep(idleAfter + 2*time.Minute)
		l.state(s.ID, sessions.Idle)
		l.engines(1, 0)
	})
}

// A session that is closed counts against nobody's limit of engines, also where its
// cluster is no longer configured.
func TestForgottenClusterLeavesItsPlace(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		l.memory.LimitEngines(1, 0)
		before, s := l.replica(), l.pending("c")
		before.lookup(t, s.ID)
		before.stop()
		var err error
		if l.clusters, err = sessions.NewClusters([]sessions.Cluster{{Name: "d", Launcher: newLauncher()}}); err != nil {
			t.Fatal(err)
		}
		after := l.replica()
		if _, err := l.memory.Transition(t.Context(), s.ID, sessions.CloseAt(time.Now(), "")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(idleAfter + 5*time.Second)
		after.lookup(t, l.pending("d").ID)
	})
}

// faulty is a launcher that cannot list all of its engines; none: that cannot list any.
type faulty struct {
	sessions.Launcher
	none bool
}

func (f faulty) Running(ctx context.Context) ([]sessions.Launched, error) {
	list, err := f.Launcher.Running(ctx)
	if f.none {
		list = nil
	}
	return list, errors.Join(err, errors.New("a record cannot be read"))
}

// A cluster whose engines cannot be listed keeps what crashes left behind on others
// from nobody, nor does one engine that cannot be read keep the others of its cluster.
func TestSweepGoesOnBehindAFault(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		l.clusters["final"].Launcher = faulty{l.launcher, true}
		l.clusters["c"].Launcher = faulty{l.launcher, false}
		l.replica()
		if _, err := l.launcher.Launch(t.Context(), sessions.LaunchSpec{Cluster: "c", Session: newID(t), Generation: 1}, func(string) {}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		l.engines(1, 0)
	})
}

// slowStop is a launcher whose engines take their time to stop.
type slowStop struct {
	*launcher
	takes time.Duration
}

func (s slowStop) Stop(ctx context.Context, in sessions.Instance) error {
	select {
	case <-time.After(s.takes):
		return s.launcher.Stop(ctx, in)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// An engine has the time to stop that it was given, however long.
func TestStopTakesItsTime(t *testing.T) {
	for given, running := range map[time.Duration]int{2 * time.Minute: 1, 4 * time.Minute: 0} {
		inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
			slow := slowStop{l.launcher, 3 * time.Minute}
			l.clusters["c"].Launcher, l.clusters["final"].Launcher, l.stops = slow, slow, given
			a, s := l.replica(), l.pending("c")
			a.lookup(t, s.ID)
			time.Sleep(idleAfter + 5*time.Minute)
			l.engines(1, running)
		})
	}
}

// A part of the registry is away: the sessions there are looked at when it is back, and
// the others in their time.
func TestReaperWithPartOfTheRegistry(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		m := &shards{Memory: l.memory}
		waker, err := sessions.NewWaker(sessions.WakerConfig{Store: m, Engine: &engine{}, Clusters: l.clusters})
		if err != nil {
			t.Fatal(err)
		}
		reaper, err := sessions.NewReaper(sessions.ReaperConfig{Store: m, Waker: waker, Clusters: l.clusters})
		if err != nil {
			t.Fatal(err)
		}
		away, there := l.pending("c"), l.pending("c")
		for _, s := range []sessions.Session{away, there} {
			if err := waker.Wake(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- reaper.Run(ctx) }()
		m.lose(away.ID)
		time.Sleep(idleAfter + 5*time.Second)
		l.state(there.ID, sessions.Idle)
		l.state(away.ID, sessions.Active)
		time.Sleep(time.Minute)
		l.engines(2, 1)
		m.lose()
		time.Sleep(2 * time.Second)
		l.state(away.ID, sessions.Idle)
		cancel()
		<-done
		waker.Close()
	})
}

// Replicas that do not know its cluster keep no session awake either: theirs is another
// configuration, as while replicas are replaced one by one.
func TestStrangersKeepNobodyAwake(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		own := l.clusters
		others, err := sessions.NewClusters([]sessions.Cluster{{Name: "other", Launcher: newLauncher()}})
		if err != nil {
			t.Fatal(err)
		}
		l.clusters = others
		for range 5 {
			l.replica()
		}
		l.clusters = own
		a := l.replica()
		s := l.pending("c")
		a.lookup(t, s.ID)
		time.Sleep(idleAfter + 10*time.Second)
		l.state(s.ID, sessions.Idle)
	})
}
