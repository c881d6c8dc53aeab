package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// TestLifeAgainstModel does random steps to sessions, replicas, engines and the
// registry, and holds what comes of it against what a session's life promises.
// The steps are drawn first and then done on a fake clock.
func TestLifeAgainstModel(t *testing.T) {
	for _, isolation := range []sessions.Isolation{sessions.IsolateSession, sessions.IsolateNone} {
		t.Run(string(isolation), func(t *testing.T) { testLife(t, isolation) })
	}
}

func testLife(t *testing.T, isolation sessions.Isolation) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		plan := rapid.SliceOfN(events(), 1, 25).Draw(rt, "plan")
		var w *world
		synctest.Test(t, func(t *testing.T) {
			w = newWorld(t, isolation, seed)
			w.live(plan)
		})
		if len(w.wrong) > 0 {
			for _, line := range w.story {
				rt.Log(line)
			}
			rt.Fatal(w.wrong[0])
		}
	})
}

// event is something that happens, and how long nothing else does then.
type event struct {
	What             string
	Session, Replica int
	N                int
	Wait             time.Duration
}

func events() *rapid.Generator[event] {
	what := []string{
		"create", "lookup", "lookup", "open", "open", "leave", "close", "crash", "pause", "steal", "away", "lose", "kill", "fail",
	}
	waits := []time.Duration{time.Millisecond, 300 * time.Millisecond, 2 * time.Second, 6 * time.Second, 20 * time.Second, 62 * time.Second, 95 * time.Second, 7 * time.Minute}
	return rapid.Custom(func(rt *rapid.T) event {
		return event{
			What: rapid.SampledFrom(what).Draw(rt, "what"), Session: rapid.IntRange(0, 2).Draw(rt, "session"),
			Replica: rapid.IntRange(0, 2).Draw(rt, "replica"), N: rapid.IntRange(1, 30).Draw(rt, "n"),
			Wait: rapid.SampledFrom(waits).Draw(rt, "wait"),
		}
	})
}

// world is replicas of Sconce on one registry and one machine.
type world struct {
	t         *testing.T
	memory    *storetest.Memory
	isolation sessions.Isolation
	engines   engines
	seed      uint64
	tasks     sync.WaitGroup // streams and lookups under way, news on their way
	began     time.Time

	mu       sync.Mutex
	replicas [3]*process
	ids      []sessions.ID
	story    []string
	wrong    []string
	away     bool
	active   map[sessions.ID]uint64 // times that a session became active
	closed   map[sessions.ID]bool
	loose    bool                     // a lease may have been lost
	bad      map[string]time.Duration // what is not as it should be, and for how long
}

// process is one replica of Sconce.
type process struct {
	*link
	resolver *sessions.Resolver
	manager  *sessions.Manager
	stop     func()
}

// stream is one that is open on an engine.
type stream struct {
	session sessions.ID
	engine  string
	route   *sessions.Route
}

func newWorld(t *testing.T, isolation sessions.Isolation, seed uint64) *world {
	return &world{
		t: t, memory: storetest.NewMemory(), isolation: isolation, seed: seed, began: time.Now(),
		engines: engines{running: map[string]sessions.Launched{}, killed: map[string]bool{}}, active: map[sessions.ID]uint64{},
		closed: map[sessions.ID]bool{}, bad: map[string]time.Duration{},
	}
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.story = append(w.story, fmt.Sprintf("%12s ", time.Since(w.began))+fmt.Sprintf(format, args...))
}

func (w *world) fault(format string, args ...any) {
	w.note("WRONG: "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

type noIssuer struct{}

func (noIssuer) Issue(auth.Grant) (string, *auth.Identity, error) { return "", nil, errors.New("no") }

// start starts a replica in that place.
func (w *world) start(place int) {
	w.seed++
	k := &link{Memory: w.memory, world: w, seed: w.seed, drawn: map[string]uint64{}, streams: map[*stream]struct{}{}}
	r := &process{link: k}
	cs, err := sessions.NewClusters([]sessions.Cluster{{Name: "c", Launcher: starter{k}, Isolation: w.isolation, Policy: sessions.ClusterPolicy{IdleTimeout: idleAfter}}})
	w.must(err)
	waker, err := sessions.NewWaker(sessions.WakerConfig{
		Store: k, Engine: &engine{}, Clusters: cs, Timeout: time.Minute,
		Restore: func(ctx context.Context, _ *sessions.Cluster, _ sessions.Session) error { return k.restore(ctx) },
	})
	w.must(err)
	reaper, err := sessions.NewReaper(sessions.ReaperConfig{Store: k, Waker: waker, Clusters: cs})
	w.must(err)
	r.resolver, err = sessions.NewResolver(sessions.ResolverConfig{
		Directory: k, Clusters: cs, Waker: waker, Uses: k, OnEnd: func(id sessions.ID, _ error) { k.endStreams(id) },
	})
	w.must(err)
	r.manager, err = sessions.NewManager(sessions.ManagerConfig{
		Store: k, Tokens: w.memory, Engine: &engine{}, Issuer: noIssuer{}, Waker: waker, Clusters: cs,
		OnClosed: func(id sessions.ID, _ error) { k.endStreams(id) },
	})
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{reaper.Run, r.resolver.Run, r.manager.Run} {
		wg.Go(func() { _ = run(ctx) })
	}
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait(); waker.Close() })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replicas[place] = r
}

// all are the replicas of the moment; who starts them may read them as they are.
func (w *world) all() [3]*process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.replicas
}

func (w *world) must(err error) {
	if err != nil {
		w.fault("%v", err)
	}
}

// restore takes a while too.
func (k *link) restore(ctx context.Context) error {
	takes := []time.Duration{time.Millisecond, time.Second, 8 * time.Second}[k.draw("restores", 3)]
	select {
	case <-time.After(takes):
	case <-ctx.Done():
	}
	return k.half(ctx, "restore")
}

// live does the plan, then lets all come to rest, and uses every session again.
func (w *world) live(plan []event) {
	for i := range w.replicas {
		w.start(i)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() { w.watch(ctx) })
	w.create(w.replicas[0])
	time.Sleep(time.Second)
	for _, s := range plan {
		w.do(s)
		time.Sleep(s.Wait)
		w.revive()
	}
	w.rest()
	w.again()
	cancel()
	watch.Wait()
	for _, r := range w.replicas {
		r.stop()
	}
	w.tasks.Wait()
}

// revive starts again what died.
func (w *world) revive() {
	for i, r := range w.replicas {
		if r.isDead() {
			r.stop()
			w.note("replica %d starts again", i)
			w.start(i)
		}
	}
}

func (w *world) do(s event) {
	r := w.replicas[s.Replica]
	w.note("%s: session %d, replica %d, %d; then %s", s.What, s.Session, s.Replica, s.N, s.Wait)
	switch s.What {
	case "create":
		w.create(r)
	case "lookup":
		w.tasks.Go(func() { w.lookup(r, w.id(s.Session)) })
	case "open":
		w.tasks.Go(func() { w.open(r, w.id(s.Session)) })
	case "leave":
		r.endStreams(w.id(s.Session))
	case "close":
		id := w.id(s.Session)
		w.tasks.Go(func() { _, _ = r.manager.Close(context.Background(), sessions.Actor{Subject: "ann", Org: "acme"}, id) })
	case "crash":
		r.mu.Lock()
		r.dies = time.Now().Add(time.Duration(s.N*s.N) * time.Millisecond * 4 / 3)
		r.mu.Unlock()
	case "pause":
		w.disturb()
		r.mu.Lock()
		r.paused = time.Now().Add(time.Duration(s.N) * time.Second / 2)
		r.mu.Unlock()
	case "steal":
		w.disturb()
		w.memory.StealAll()
	case "away":
		w.disturb()
		w.setAway(true)
		w.tasks.Go(func() { time.Sleep(time.Duration(s.N) * time.Second / 2); w.setAway(false) })
	case "lose":
		r.mu.Lock()
		r.loses = 1
		r.mu.Unlock()
	case "kill":
		if all := w.engines.all(); len(all) > 0 {
			w.kill(all[s.N%len(all)].ID)
		}
	case "fail":
		w.engines.mu.Lock()
		w.engines.fails = !w.engines.fails
		w.engines.mu.Unlock()
	}
}

// disturb notes that a holder may lose its lease: then a session may find itself on
// an engine that was taken from it, and fail.
func (w *world) disturb() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loose = true
}

func (w *world) setAway(away bool) {
	w.mu.Lock()
	w.away = away
	w.mu.Unlock()
	if away {
		w.memory.Fail(sessions.ErrUnavailable)
	} else {
		w.memory.Fail(nil)
	}
}

func (w *world) id(i int) sessions.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ids) == 0 {
		return ""
	}
	return w.ids[i%len(w.ids)]
}

// create records a session and has it woken, mostly.
func (w *world) create(r *process) {
	w.tasks.Go(func() {
		s, err := r.manager.Create(context.Background(), sessions.Actor{Subject: "ann", Org: "acme"}, sessions.CreateRequest{})
		w.note("created %s: %s, %v", s.ID, s.State, err)
		if s.ID != "" {
			w.mu.Lock()
			w.ids = append(w.ids, s.ID)
			w.mu.Unlock()
		}
	})
}

func (w *world) lookup(r *process, id sessions.ID) *sessions.Route {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	route, err := r.resolver.Lookup(ctx, id)
	if err != nil {
		w.note("%s: lookup: %v", id, err)
		return nil
	}
	route.Use()
	w.note("%s: is on %s, generation %d", id, route.Session.Engine.ID, route.Session.Generation)
	return route
}

// open opens a stream where the engine takes it.
func (w *world) open(r *process, id sessions.ID) {
	route := w.lookup(r, id)
	if route == nil {
		return
	}
	s := &stream{session: id, engine: route.Session.Engine.ID, route: route}
	route.StreamOpened()
	r.mu.Lock()
	r.streams[s] = struct{}{}
	r.mu.Unlock()
	if _, err := r.resolver.Record(context.Background(), id); err != nil || !w.engines.runs(s.engine) {
		r.resolver.ReportFailure(id, route.Session.Generation)
		r.endStream(s)
	}
}

func (k *link) endStream(s *stream) {
	k.mu.Lock()
	_, open := k.streams[s]
	delete(k.streams, s)
	k.mu.Unlock()
	if open {
		s.route.StreamEnded()
	}
}

// endStreams ends those of a session.
func (k *link) endStreams(id sessions.ID) {
	for _, s := range k.open() {
		if s.session == id {
			k.endStream(s)
		}
	}
}

func (k *link) open() (list []*stream) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone() {
		return nil
	}
	for s := range k.streams {
		list = append(list, s)
	}
	return list
}

// kill has an engine die, and the streams on it with it.
func (w *world) kill(id string) {
	w.note("%s dies", id)
	w.engines.kill(id)
	for _, r := range w.replicas {
		for _, s := range r.open() {
			if s.engine == id {
				r.endStream(s)
			}
		}
	}
}
