package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/sessions"
)

// The whole life: awake at the first use, idle when unused, its engine stopped,
// awake again on another engine.
func TestIdleAndAwake(t *testing.T) {
	for _, isolation := range []sessions.Isolation{sessions.IsolateSession, sessions.IsolateNone} {
		t.Run(string(isolation), func(t *testing.T) {
			inLife(t, isolation, func(t *testing.T, l *life) {
				a, s := l.replica(), l.pending("c")
				route := a.lookup(t, s.ID)
				if route.Cluster.Address != "127.0.0.1:1" || route.Session.Generation != 1 {
					t.Errorf("routed to %s, generation %d", route.Cluster.Address, route.Session.Generation)
				}
				l.engines(1, 1)
				if up, err := l.launcher.Running(t.Context()); err != nil || up[0].Spec.KeepFor < 365*24*time.Hour {
					t.Errorf("the engine forgets a Spark session that is unused for %v (%v), and the session may live longer", up[0].Spec.KeepFor, err)
				}
				time.Sleep(idleAfter + 3*time.Second)
				l.state(s.ID, sessions.Idle)
				l.engines(1, 1) // still up: somebody may not have heard yet
				time.Sleep(time.Minute)
				l.engines(1, 0)
				route = a.lookup(t, s.ID)
				if route.Cluster.Address != "127.0.0.1:2" || route.Session.Generation != 2 {
					t.Errorf("routed to %s, generation %d", route.Cluster.Address, route.Session.Generation)
				}
				l.engines(2, 1)
				if len(l.restored) != 2 || l.restored[1].Generation != 1 {
					t.Errorf("restored %+v", l.restored)
				}
			})
		})
	}
}

// However many callers on however many replicas: one launch.
func TestOneLaunch(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		s := l.pending("c")
		var wg sync.WaitGroup
		for _, r := range []*gateway{l.replica(), l.replica(), l.replica()} {
			for range 50 {
				wg.Go(func() {
					if route, err := r.resolver.Lookup(t.Context(), s.ID); err != nil || route.Cluster.Address != "127.0.0.1:1" {
						t.Error(route, err)
					}
				})
			}
		}
		wg.Wait()
		l.engines(1, 1)
		if len(l.restored) != 1 {
			t.Errorf("restored %d times", len(l.restored))
		}
	})
}

// Sessions of a shared cluster run on one engine, which goes with the last of them.
func TestSharedEngine(t *testing.T) {
	inLife(t, sessions.IsolateNone, func(t *testing.T, l *life) {
		a, b := l.replica(), l.replica()
		one, two := l.pending("c"), l.pending("c")
		var wg sync.WaitGroup
		wg.Go(func() { a.lookup(t, one.ID) })
		wg.Go(func() { b.lookup(t, two.ID) })
		wg.Wait()
		l.engines(1, 1)
		for range 10 { // one goes on
			time.Sleep(idleAfter / 3)
			a.lookup(t, one.ID).Use()
		}
		l.state(one.ID, sessions.Active)
		l.state(two.ID, sessions.Idle)
		l.engines(1, 1)
		b.lookup(t, two.ID)
		if len(l.restored) != 2 {
			t.Errorf("restored %d times: it is on an engine that knows it", len(l.restored))
		}
		time.Sleep(3 * idleAfter)
		l.engines(1, 0)
	})
}

// A session with an open stream, or an operation that a client may come back for,
// is not made idle.
func TestBusyIsNeverIdle(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a := l.replica()
		s := l.pending("c")
		route := a.lookup(t, s.ID)
		route.StreamOpened()
		time.Sleep(10 * idleAfter)
		l.state(s.ID, sessions.Active)
		route.OperationDetached("op", time.Now())
		route.StreamEnded()
		time.Sleep(2 * idleAfter)
		l.state(s.ID, sessions.Active)
		a.stop() // its replica dies; another goes on
		l.replica()
		time.Sleep(2 * idleAfter)
		l.state(s.ID, sessions.Active)
		time.Sleep(5 * time.Minute) // nobody came back for it
		l.state(s.ID, sessions.Idle)
	})
}

// A stream that came in the moment the session became idle keeps its engine.
func TestIdleWhileAStreamComes(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a, b := l.replica(), l.replica()
		s := l.pending("c")
		route := a.lookup(t, s.ID)
		_ = b
		time.Sleep(5 * time.Second)
		route.StreamOpened() // the registry does not know yet
		if _, err := l.memory.Transition(t.Context(), s.ID, sessions.Transition{From: sessions.Active, Generation: 1, To: sessions.Idle, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		l.state(s.ID, sessions.Active)
		time.Sleep(5 * time.Minute)
		l.engines(1, 1)
		if len(l.restored) != 1 {
			t.Errorf("restored %d times", len(l.restored))
		}
	})
}

func TestClockJumpsIdleNobody(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a := l.replica()
		s := l.pending("c")
		a.lookup(t, s.ID)
		time.Sleep(10 * time.Second)
		l.memory.Shift(48 * time.Hour)
		time.Sleep(30 * time.Second)
		l.state(s.ID, sessions.Active)
		l.memory.Shift(-72 * time.Hour)
		time.Sleep(15 * time.Second)
		l.state(s.ID, sessions.Active)
		a.lookup(t, s.ID).Use() // and what is used later counts as before
		time.Sleep(40 * time.Second)
		l.state(s.ID, sessions.Active)
	})
}

// What is used after a jump becomes idle in its time, and so does what is not.
func TestClockJumpIsOver(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a := l.replica()
		used, unused := l.pending("c"), l.pending("c")
		a.lookup(t, used.ID)
		a.lookup(t, unused.ID)
		time.Sleep(10 * time.Second)
		for range 2 {
			l.memory.Shift(48 * time.Hour)
			time.Sleep(15 * time.Second)
			a.lookup(t, used.ID).Use()
		}
		time.Sleep(idleAfter - 35*time.Second)
		l.state(used.ID, sessions.Active)
		l.state(unused.ID, sessions.Idle)
		time.Sleep(40 * time.Second)
		l.state(used.ID, sessions.Idle)
	})
}

// An engine that ended: its session has failed within 5 s, says so, and its next
// request wakes it, unless the cluster says no.
func TestEngineEnds(t *testing.T) {
	for cluster, again := range map[string]bool{"c": true, "final": false} {
		t.Run(cluster, func(t *testing.T) {
			inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
				a := l.replica()
				s := l.pending(cluster)
				a.lookup(t, s.ID)
				l.launcher.kill("engine-1")
				time.Sleep(4 * time.Second)
				l.state(s.ID, sessions.Failed)
				if reason := l.get(s.ID).Reason; reason != "its engine has ended: exit status 1" {
					t.Errorf("reason: %q", reason)
				}
				_, err := a.resolver.Lookup(t.Context(), s.ID)
				if again && err != nil || !again && !errors.Is(err, sessions.ErrFailed) {
					t.Errorf("a request after it: %v", err)
				}
			})
		})
	}
}

// An engine that does not start is said to all who wait, with its log, and tried
// again only after a while.
func TestLaunchFails(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		l.launcher.fails = &sessions.LaunchError{Cluster: "c", Reason: "no memory", Log: "java.lang.OutOfMemoryError"}
		a := l.replica()
		s := l.pending("c")
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				_, err := a.resolver.Lookup(t.Context(), s.ID)
				var launch *sessions.LaunchError
				if !errors.As(err, &launch) || launch.Log == "" {
					t.Errorf("waiting: %v", err)
				}
			})
		}
		wg.Wait()
		l.engines(1, 0)
		if s := l.get(s.ID); s.WakeFailure != "no memory" || s.Stage != "" {
			t.Errorf("record: %+v", s)
		}
		_, _ = a.resolver.Lookup(t.Context(), s.ID)
		l.engines(1, 0)
		time.Sleep(6 * time.Second)
		l.launcher.fails = nil
		a.lookup(t, s.ID)
		l.engines(2, 1)
	})
}

// An engine whose launcher does not know its version is asked, once for each launch;
// one that does not tell is used all the same.
func TestEngineVersion(t *testing.T) {
	inLife(t, sessions.IsolateNone, func(t *testing.T, l *life) {
		l.engine.version = "4.1\x1b[2J" + strings.Repeat("0", 100)
		a := l.replica()
		a.lookup(t, l.pending("c").ID)
		s := l.pending("c")
		a.lookup(t, s.ID)
		if v := l.get(s.ID).Engine.Version; !strings.HasPrefix(v, "4.1[2J00") || len(v) > 64 {
			t.Errorf("version %q", v)
		}
		if !slices.Equal(l.engine.asked, []string{"127.0.0.1:1"}) {
			t.Errorf("asked at %v", l.engine.asked)
		}
	})
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a := l.replica()
		l.engine.set(errors.New("no"))
		s := l.pending("c")
		a.lookup(t, s.ID)
		l.launcher.says = "0.7.2"
		known := l.pending("c")
		a.lookup(t, known.ID)
		if v, w := l.get(s.ID).Engine.Version, l.get(known.ID).Engine.Version; v != "" || w != "0.7.2" || len(l.engine.asked) != 1 {
			t.Errorf("versions %q and %q, asked at %v", v, w, l.engine.asked)
		}
	})
}

// More engines than the limit are not up, on all replicas together: who comes too much
// is told which limit it is, again as soon as they ask, and gets an engine once one
// became idle.
func TestEngineLimits(t *testing.T) {
	for limit, most := range map[string][2]int{
		sessions.LimitEnginesPerOwner: {2, 0}, sessions.LimitEnginesPerOrg: {0, 2},
	} {
		inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
			l.memory.LimitEngines(most[0], most[1])
			replicas := []*gateway{l.replica(), l.replica()}
			var refused atomic.Int32
			var wg sync.WaitGroup
			var late sessions.Session
			for i := range 6 {
				s := l.pending("c")
				wg.Go(func() {
					_, err := replicas[i%2].resolver.Lookup(t.Context(), s.ID)
					var reached *sessions.LimitError
					switch {
					case errors.As(err, &reached) && reached.Limit == limit && reached.Max == 2:
						l.mu.Lock()
						defer l.mu.Unlock()
						refused.Add(1)
						late = s
					case err != nil:
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if n := refused.Load(); n != 4 {
				t.Errorf("%d were refused, want 4", n)
			}
			l.engines(2, 2)
			l.state(late.ID, sessions.Pending)
			if s := l.get(late.ID); s.WakeFailure != "the limit "+limit+" (2) is reached" {
				t.Errorf("its record says %q", s.WakeFailure)
			}
			time.Sleep(idleAfter + 40*time.Second) // the two are idle, and their engines gone
			l.engines(2, 0)
			replicas[0].lookup(t, late.ID)
			l.engines(3, 1)
		})
	}
}

// A launch that fails takes no place for good, and a shared engine takes none.
func TestEngineLimitAfterFailures(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		l.memory.LimitEngines(1, 1)
		a := l.replica()
		l.launcher.fails = &sessions.LaunchError{Cluster: "c", Reason: "no memory"}
		if _, err := a.resolver.Lookup(t.Context(), l.pending("c").ID); err == nil {
			t.Error("it started")
		}
		l.launcher.fails, l.restore = nil, errors.New("no")
		if _, err := a.resolver.Lookup(t.Context(), l.pending("c").ID); err == nil {
			t.Error("it was restored")
		}
		l.restore = nil
		s := l.pending("c")
		a.lookup(t, s.ID)
		l.launcher.kill("engine-3")
		time.Sleep(4 * time.Second)
		l.state(s.ID, sessions.Failed)
		a.lookup(t, l.pending("c").ID)
		l.engines(4, 1)
	})
	inLife(t, sessions.IsolateNone, func(t *testing.T, l *life) {
		l.memory.LimitEngines(1, 1)
		a := l.replica()
		a.lookup(t, l.pending("c").ID)
		a.lookup(t, l.pending("final").ID)
		l.engines(2, 2)
	})
}

// A state that cannot be brought over leaves no engine and no half session.
func TestRestoreFails(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		l.restore = errors.New("no")
		a := l.replica()
		s := l.pending("c")
		if _, err := a.resolver.Lookup(t.Context(), s.ID); err == nil || !strings.Contains(err.Error(), "could not be restored") {
			t.Error(err)
		}
		l.state(s.ID, sessions.Pending)
		l.engines(1, 0)
	})
}

// A wake that takes more than its time is tried again by the next request, whoever says
// that it took too long.
func TestWakeThatTakesTooLong(t *testing.T) {
	for _, says := range []error{context.DeadlineExceeded, status.Error(codes.DeadlineExceeded, "context deadline exceeded")} {
		inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
			l.restores, l.restore = func() { time.Sleep(6 * time.Minute) }, fmt.Errorf("replay: %w", says)
			a := l.replica()
			s := l.pending("c")
			if _, err := a.resolver.Lookup(t.Context(), s.ID); !errors.Is(err, sessions.ErrPending) {
				t.Errorf("%v, want that it is pending", err)
			}
			if why := l.get(s.ID).WakeFailure; why != "it took too long" {
				t.Errorf("its record says %q", why)
			}
			l.engines(1, 0)
		})
	}
}

// A registry that goes away meanwhile is no fault of the engine's: callers are told to
// wait, and the next of them tries at once.
func TestRegistryGoesWhileRestoring(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		l.restore = fmt.Errorf("record replay: %w", sessions.ErrUnavailable)
		a := l.replica()
		s := l.pending("c")
		if _, err := a.resolver.Lookup(t.Context(), s.ID); !errors.Is(err, sessions.ErrUnavailable) {
			t.Errorf("%v, want that the registry is away", err)
		}
		l.restore = nil
		a.lookup(t, s.ID)
		l.state(s.ID, sessions.Active)
	})
}

// The holder of the lease is asleep for so long that another replica takes over:
// what the first one launched goes, the second one's stays.
func TestPausedWaker(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a, b := l.replica(), l.replica()
		s := l.pending("c")
		var asleep atomic.Bool
		l.launcher.launched = func() {
			if asleep.CompareAndSwap(false, true) {
				l.memory.StealAll()
				b.lookup(t, s.ID)
			}
		}
		a.lookup(t, s.ID)
		time.Sleep(time.Second)
		l.engines(2, 1)
		l.state(s.ID, sessions.Active)
		if in := l.get(s.ID).Engine; in.ID != "engine-2" {
			t.Errorf("it runs on %s", in.ID)
		}
	})
}

// Who dies in the middle of a launch leaves an engine without a record: it is
// found and stopped.
func TestOrphan(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		s := l.pending("c")
		in, err := l.launcher.Launch(t.Context(), sessions.LaunchSpec{Cluster: "c", Session: s.ID, Generation: 1}, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		a := l.replica()
		a.lookup(t, s.ID)
		time.Sleep(time.Minute)
		l.engines(2, 1)
		if l.launcher.Alive(t.Context(), in) == nil {
			t.Error("the orphan runs")
		}
	})
}

// A session that is closed while it is woken stays closed, and leaves no engine.
func TestCloseWhileWaking(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a := l.replica()
		s := l.pending("c")
		done := make(chan error)
		go func() {
			_, err := a.resolver.Lookup(t.Context(), s.ID)
			done <- err
		}()
		time.Sleep(500 * time.Millisecond)
		if _, err := l.memory.Transition(t.Context(), s.ID, sessions.CloseAt(time.Now(), "closed")); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, sessions.ErrClosed) {
			t.Errorf("a request that waited: %v", err)
		}
		time.Sleep(2 * time.Minute)
		l.state(s.ID, sessions.Closed)
		l.engines(1, 0)
	})
}

// A cluster that is an address has sessions that become idle and wake, and no engine.
func TestIdleOnAnAddress(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a := l.replica()
		s := l.pending("static")
		a.lookup(t, s.ID)
		time.Sleep(2 * idleAfter)
		l.state(s.ID, sessions.Idle)
		if route := a.lookup(t, s.ID); route.Session.Generation != 2 {
			t.Errorf("generation %d", route.Session.Generation)
		}
		l.engines(0, 0)
	})
}

// A session whose engine is on another machine is refused here, not led to what
// listens at that address here.
func TestEngineElsewhere(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		s := l.pending("c")
		_, err := l.memory.Transition(t.Context(), s.ID, sessions.Transition{
			From: sessions.Pending, To: sessions.Active, At: time.Now(),
			Engine: &sessions.Instance{ID: "x", Home: "moon", Address: "127.0.0.1:1"},
		})
		if err != nil {
			t.Fatal(err)
		}
		var why *sessions.FailedError
		if _, err := l.replica().resolver.Lookup(t.Context(), s.ID); !errors.As(err, &why) || why.Generation != 1 {
			t.Errorf("got %+v", err)
		}
	})
}
