package sessions_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// link is one replica's way to the registry and to its engines: slow, and it ends
// where the replica dies. What a call did before that stays done.
type link struct {
	*storetest.Memory
	world *world

	mu      sync.Mutex
	seed    uint64
	drawn   map[string]uint64 // numbers, by what for
	dies    time.Time         // zero = it does not
	paused  time.Time         // until then
	loses   int               // answers of transitions that get lost
	streams map[*stream]struct{}
}

// draw is a number below n. What for makes it the same for a seed, whichever
// goroutine asks first.
func (k *link) draw(what string, n int) int {
	k.mu.Lock()
	k.drawn[what]++
	seq := k.drawn[what]
	k.mu.Unlock()
	h := fnv.New64a()
	fmt.Fprint(h, k.seed, what, seq)
	return rand.New(rand.NewPCG(h.Sum64(), seq)).IntN(n)
}

// half is the way of a question or of its answer. It takes its time, and a pause.
func (k *link) half(ctx context.Context, what string) error {
	time.Sleep(time.Duration(50_000 + k.draw(what, 4_000_000)))
	k.mu.Lock()
	paused := k.paused
	k.mu.Unlock()
	if k.isDead() {
		return context.Canceled
	}
	time.Sleep(time.Until(paused))
	if k.isDead() {
		return context.Canceled
	}
	return ctx.Err()
}

func (k *link) isDead() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.gone()
}

// gone is isDead under mu.
func (k *link) gone() bool { return !k.dies.IsZero() && !time.Now().Before(k.dies) }

// fit says that it neither is dead nor sleeps.
func (k *link) fit() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.gone() && time.Now().After(k.paused)
}

// over is one call by way of k.
func over[T any](ctx context.Context, k *link, what string, do func(context.Context) (T, error)) (v T, err error) {
	if err := k.half(ctx, what); err != nil {
		return v, err
	}
	v, err = do(ctx)
	if lost := k.half(ctx, what); lost != nil {
		var none T
		return none, lost
	}
	return v, err
}

func overErr(ctx context.Context, k *link, what string, do func(context.Context) error) error {
	_, err := over(ctx, k, what, func(ctx context.Context) (struct{}, error) { return struct{}{}, do(ctx) })
	return err
}

func (k *link) Create(ctx context.Context, s sessions.Session, request string) (sessions.Session, error) {
	return over(ctx, k, "Create", func(ctx context.Context) (sessions.Session, error) { return k.Memory.Create(ctx, s, request) })
}

func (k *link) Get(ctx context.Context, ids ...sessions.ID) ([]sessions.Session, error) {
	return over(ctx, k, "Get", func(ctx context.Context) ([]sessions.Session, error) { return k.Memory.Get(ctx, ids...) })
}

func (k *link) Bound(ctx context.Context, id sessions.ID) ([]sessions.SparkID, error) {
	return over(ctx, k, "Bound", func(ctx context.Context) ([]sessions.SparkID, error) { return k.Memory.Bound(ctx, id) })
}

func (k *link) Transition(ctx context.Context, id sessions.ID, t sessions.Transition) (sessions.Session, error) {
	s, err := over(ctx, k, "Transition", func(ctx context.Context) (sessions.Session, error) {
		s, err := k.Memory.Transition(ctx, id, t)
		k.world.stepped(id, t, s, err)
		return s, err
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.loses > 0 {
		k.loses--
		return sessions.Session{}, sessions.ErrUnavailable
	}
	return s, err
}

func (k *link) JoinEngine(ctx context.Context, key sessions.EngineKey, id sessions.ID, generation uint64) (sessions.Instance, error) {
	return over(ctx, k, "JoinEngine", func(ctx context.Context) (sessions.Instance, error) {
		return k.Memory.JoinEngine(ctx, key, id, generation)
	})
}

func (k *link) PutEngine(ctx context.Context, e sessions.EngineRecord, token string) error {
	return overErr(ctx, k, "PutEngine", func(ctx context.Context) error { return k.Memory.PutEngine(ctx, e, token) })
}

func (k *link) TakePlace(ctx context.Context, key sessions.EngineKey, p sessions.Place) error {
	return overErr(ctx, k, "TakePlace", func(ctx context.Context) error { return k.Memory.TakePlace(ctx, key, p) })
}

func (k *link) FreePlace(ctx context.Context, key sessions.EngineKey, p sessions.Place) error {
	return overErr(ctx, k, "FreePlace", func(ctx context.Context) error { return k.Memory.FreePlace(ctx, key, p) })
}

func (k *link) LeaveEngine(ctx context.Context, key sessions.EngineKey, id sessions.ID, generation uint64) (*sessions.Instance, error) {
	return over(ctx, k, "LeaveEngine", func(ctx context.Context) (*sessions.Instance, error) {
		in, err := k.Memory.LeaveEngine(ctx, key, id, generation)
		if in != nil {
			k.world.note("%s left %s with generation %d: its last", id, in.ID, generation)
		}
		return in, err
	})
}

func (k *link) DropEngine(ctx context.Context, key sessions.EngineKey, instance string) (map[sessions.ID]uint64, error) {
	return over(ctx, k, "DropEngine", func(ctx context.Context) (map[sessions.ID]uint64, error) {
		k.world.note("%s is dropped", instance)
		return k.Memory.DropEngine(ctx, key, instance)
	})
}

func (k *link) Engines(ctx context.Context) ([]sessions.EngineRecord, error) {
	return over(ctx, k, "Engines", k.Memory.Engines)
}

func (k *link) LeaseEngine(ctx context.Context, key sessions.EngineKey, token string, ttl time.Duration) (bool, error) {
	return over(ctx, k, "LeaseEngine", func(ctx context.Context) (bool, error) { return k.Memory.LeaseEngine(ctx, key, token, ttl) })
}

func (k *link) UnleaseEngine(ctx context.Context, key sessions.EngineKey, token string) error {
	return overErr(ctx, k, "UnleaseEngine", func(ctx context.Context) error { return k.Memory.UnleaseEngine(ctx, key, token) })
}

func (k *link) EngineLeased(ctx context.Context, key sessions.EngineKey) (bool, error) {
	return over(ctx, k, "EngineLeased", func(ctx context.Context) (bool, error) { return k.Memory.EngineLeased(ctx, key) })
}

func (k *link) LeaseSession(ctx context.Context, id sessions.ID, token string, ttl time.Duration) (bool, error) {
	return over(ctx, k, "LeaseSession", func(ctx context.Context) (bool, error) { return k.Memory.LeaseSession(ctx, id, token, ttl) })
}

func (k *link) UnleaseSession(ctx context.Context, id sessions.ID, token string) error {
	return overErr(ctx, k, "UnleaseSession", func(ctx context.Context) error { return k.Memory.UnleaseSession(ctx, id, token) })
}

func (k *link) Touch(ctx context.Context, uses []sessions.Use) (map[sessions.ID][]string, error) {
	return over(ctx, k, "Touch", func(ctx context.Context) (map[sessions.ID][]string, error) { return k.Memory.Touch(ctx, uses) })
}

func (k *link) Streams(ctx context.Context, id sessions.ID, replica string) (int64, error) {
	return over(ctx, k, "Streams", func(ctx context.Context) (int64, error) { return k.Memory.Streams(ctx, id, replica) })
}

func (k *link) Clock(ctx context.Context) (time.Time, error) {
	return over(ctx, k, "Clock", k.Memory.Clock)
}

func (k *link) Schedule(ctx context.Context, id sessions.ID, at time.Time) error {
	return overErr(ctx, k, "Schedule", func(ctx context.Context) error { return k.Memory.Schedule(ctx, id, at) })
}

func (k *link) Scheduled(ctx context.Context, at time.Time, limit int) ([]sessions.ID, error) {
	return over(ctx, k, "Scheduled", func(ctx context.Context) ([]sessions.ID, error) { return k.Memory.Scheduled(ctx, at, limit) })
}

func (k *link) SetStage(ctx context.Context, id sessions.ID, stage, failure string) error {
	return overErr(ctx, k, "SetStage", func(ctx context.Context) error { return k.Memory.SetStage(ctx, id, stage, failure) })
}

// Watch tells k of changes a moment later, and after its pause.
func (k *link) Watch(ctx context.Context, ready func(), changed func(sessions.Change)) error {
	return k.Memory.Watch(ctx, ready, func(c sessions.Change) {
		k.world.tasks.Go(func() {
			if k.half(ctx, "Watch") == nil {
				changed(c)
			}
		})
	})
}

// engines play the programs of one machine, for all its replicas.
type engines struct {
	mu      sync.Mutex
	count   int
	running map[string]sessions.Launched
	killed  map[string]bool
	fails   bool
}

// Launch is a replica's: one that it dies in ends with it.
func (k *link) Launch(ctx context.Context, spec sessions.LaunchSpec, stage func(string)) (sessions.Instance, error) {
	e := &k.world.engines
	givenUp := &sessions.LaunchError{Cluster: spec.Cluster, Reason: "its start was given up"}
	if err := k.half(ctx, "Launch"); err != nil {
		return sessions.Instance{}, givenUp
	}
	stage("booting")
	takes := []time.Duration{50 * time.Millisecond, time.Second, 5 * time.Second, 20 * time.Second}[k.draw("takes", 4)]
	e.mu.Lock()
	e.count++
	in := sessions.Instance{ID: fmt.Sprintf("engine-%d", e.count), Address: fmt.Sprintf("127.0.0.1:%d", e.count), StartedAt: time.Now()}
	e.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
	}
	if err := k.half(ctx, "Launch"); err != nil {
		return sessions.Instance{}, givenUp
	}
	e.mu.Lock()
	fails := e.fails
	if !fails {
		e.running[in.ID] = sessions.Launched{Instance: in, Spec: spec}
	}
	e.mu.Unlock()
	if fails {
		return sessions.Instance{}, &sessions.LaunchError{Cluster: spec.Cluster, Reason: "no memory"}
	}
	k.world.note("%s runs for %s, generation %d", in.ID, spec.Session, spec.Generation)
	return in, k.half(context.WithoutCancel(ctx), "Launch")
}

// Stop takes a while.
func (k *link) Stop(ctx context.Context, in sessions.Instance) error {
	return overErr(ctx, k, "Stop", func(context.Context) error {
		takes := time.Duration(k.draw("stop", 3000)) * time.Millisecond
		k.world.stopping(in.ID)
		k.world.engines.end(in.ID)
		time.Sleep(takes)
		return nil
	})
}

func (k *link) Alive(ctx context.Context, in sessions.Instance) error {
	return overErr(ctx, k, "Alive", func(context.Context) error {
		if !k.world.engines.runs(in.ID) {
			return fmt.Errorf("%w: exit status 1", sessions.ErrGone)
		}
		return nil
	})
}

func (k *link) Reaches(sessions.Instance) bool { return true }

// starter is k as a launcher: what it lists are engines, where the registry counts
// operations.
type starter struct{ *link }

func (k starter) Running(ctx context.Context) ([]sessions.Launched, error) {
	return over(ctx, k.link, "Running", func(context.Context) ([]sessions.Launched, error) { return k.world.engines.all(), nil })
}

func (e *engines) end(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, id)
}

// kill has one die that nobody stopped.
func (e *engines) kill(id string) {
	e.end(id)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.killed[id] = true
}

func (e *engines) died(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.killed[id]
}

func (e *engines) runs(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.running[id]
	return ok
}

func (e *engines) all() (list []sessions.Launched) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.count { // in their order, so that a seed does the same each time
		if l, ok := e.running[fmt.Sprintf("engine-%d", i+1)]; ok {
			list = append(list, l)
		}
	}
	return list
}
