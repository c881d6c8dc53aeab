package sessions_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// launcher plays the engines of one cluster.
type launcher struct {
	takes time.Duration // a launch
	fails error         // every launch
	says  string        // the version that launches know

	mu       sync.Mutex
	running  map[string]sessions.Launched
	launches int
	stops    int
	dead     map[string]bool
	launched func() // called before a launch returns
}

func newLauncher() *launcher {
	return &launcher{takes: time.Second, running: map[string]sessions.Launched{}, dead: map[string]bool{}}
}

func (l *launcher) Launch(ctx context.Context, spec sessions.LaunchSpec, stage func(string)) (sessions.Instance, error) {
	stage("booting")
	l.mu.Lock()
	l.launches++
	in := sessions.Instance{ID: fmt.Sprintf("engine-%d", l.launches), Address: fmt.Sprintf("127.0.0.1:%d", l.launches), Version: l.says, StartedAt: time.Now()}
	fails, takes, launched := l.fails, l.takes, l.launched
	if fails == nil {
		l.running[in.ID] = sessions.Launched{Instance: in, Spec: spec}
	}
	l.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		l.kill(in.ID)
		return sessions.Instance{}, ctx.Err()
	}
	if launched != nil {
		launched()
	}
	return in, fails
}

func (l *launcher) Stop(_ context.Context, in sessions.Instance) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stops++
	delete(l.running, in.ID)
	return nil
}

func (l *launcher) Alive(_ context.Context, in sessions.Instance) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.running[in.ID]; !ok {
		return fmt.Errorf("%w: exit status 1", sessions.ErrGone)
	}
	return nil
}

func (l *launcher) Reaches(in sessions.Instance) bool { return in.Home == "" }

func (l *launcher) Running(context.Context) (all []sessions.Launched, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range l.running {
		all = append(all, one)
	}
	return all, nil
}

func (l *launcher) kill(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.running, id)
}

func (l *launcher) count() (launches, running int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.launches, len(l.running)
}

// gateway is what one process of Sconce runs of the life of sessions.
type gateway struct {
	waker    *sessions.Waker
	reaper   *sessions.Reaper
	resolver *sessions.Resolver
	stop     func()
}

// life is replicas on one registry.
type life struct {
	t        *testing.T
	memory   *storetest.Memory
	launcher *launcher
	engine   *engine
	clusters sessions.Clusters
	restored []sessions.Session
	restore  error
	restores func()        // called when a restore begins
	stops    time.Duration // as WakerConfig.StopTimeout
	mu       sync.Mutex
}

const idleAfter = time.Minute

// inLife runs f on a fake clock, with a cluster "c" of that isolation.
func inLife(t *testing.T, isolation sessions.Isolation, f func(t *testing.T, l *life)) {
	synctest.Test(t, func(t *testing.T) {
		l := &life{t: t, memory: storetest.NewMemory(), launcher: newLauncher(), engine: &engine{}}
		var err error
		l.clusters, err = sessions.NewClusters([]sessions.Cluster{
			{Name: "c", Launcher: l.launcher, Isolation: isolation},
			{Name: "final", Launcher: l.launcher, Isolation: isolation, NeverRestart: true},
			{Name: "static", Address: "127.0.0.1:1"},
		})
		if err != nil {
			t.Fatal(err)
		}
		f(t, l)
	})
}

func (l *life) replica() *gateway {
	l.t.Helper()
	waker, err := sessions.NewWaker(sessions.WakerConfig{
		Store: l.memory, Engine: l.engine, Clusters: l.clusters, StopTimeout: l.stops,
		Restore: func(_ context.Context, _ *sessions.Cluster, s sessions.Session) error {
			if l.restores != nil {
				l.restores()
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.restored = append(l.restored, s)
			return l.restore
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	reaper, err := sessions.NewReaper(sessions.ReaperConfig{Store: l.memory, Waker: waker, Clusters: l.clusters})
	if err != nil {
		l.t.Fatal(err)
	}
	resolver, err := sessions.NewResolver(sessions.ResolverConfig{
		Directory: l.memory, Clusters: l.clusters, Waker: waker, Uses: l.memory,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = reaper.Run(ctx) })
	wg.Go(func() { _ = resolver.Run(ctx) })
	r := &gateway{waker: waker, reaper: reaper, resolver: resolver}
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait(); waker.Close() })
	l.t.Cleanup(r.stop)
	return r
}

// pending records a new session.
func (l *life) pending(cluster string) sessions.Session {
	l.t.Helper()
	id := newID(l.t)
	s, err := l.memory.Create(context.Background(), sessions.Session{
		ID: id, Owner: "ann", Org: "acme", Cluster: cluster, State: sessions.Pending, CreatedAt: time.Now(), IdleTimeout: idleAfter,
	}, "")
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

func (l *life) get(id sessions.ID) sessions.Session {
	l.t.Helper()
	found, err := l.memory.Get(context.Background(), id)
	if err != nil || len(found) != 1 {
		l.t.Fatal(found, err)
	}
	return found[0]
}

func (l *life) state(id sessions.ID, want sessions.State) {
	l.t.Helper()
	if s := l.get(id); s.State != want {
		l.t.Errorf("session is %s (%s), want %s", s.State, s.Reason, want)
	}
}

func (l *life) engines(launches, running int) {
	l.t.Helper()
	if a, b := l.launcher.count(); a != launches || b != running {
		l.t.Errorf("%d launches, %d engines run; want %d and %d", a, b, launches, running)
	}
}

func (r *gateway) lookup(t *testing.T, id sessions.ID) *sessions.Route {
	t.Helper()
	route, err := r.resolver.Lookup(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return route
}
