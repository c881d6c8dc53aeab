package sessions_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// The registry fails over and loses a wake. Who knew the session by it leads nobody to
// the engine of that wake any more, which is nobody's and is stopped: neither while the
// session is idle again nor once another wake has its generation, and its revision.
func TestLostWakeIsForgotten(t *testing.T) {
	for name, wait := range map[string]time.Duration{"woken at once": 0, "woken later": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
				a, b := l.replica(), l.replica()
				s, spark := l.pending("c"), sessions.SparkID(uuid.NewString())
				wake := func(by *gateway, server string) *sessions.Route {
					err := l.memory.SetCarried(t.Context(), s.ID, 2, map[sessions.SparkID]sessions.Carried{spark: {ServerID: server}})
					if err != nil {
						t.Fatal(err)
					}
					return by.lookup(t, s.ID)
				}
				a.lookup(t, s.ID)
				time.Sleep(3 * idleAfter)
				before := l.get(s.ID)
				lost := wake(a, "one").Session
				time.Sleep(time.Second)
				l.memory.Put(before)
				if _, err := l.memory.DropEngine(t.Context(), sessions.EngineKey("session:"+string(s.ID)), lost.Engine.ID); err != nil {
					t.Fatal(err)
				}
				time.Sleep(wait)
				if route, ok := a.resolver.TryLookup(s.ID); ok && wait > 0 {
					t.Errorf("led to %s of a session that is idle", route.Session.Engine.ID)
				}
				now := wake(b, "other").Session
				if now.Revision != lost.Revision || now.Generation != lost.Generation || now.Engine.ID == lost.Engine.ID {
					t.Fatalf("woken as %+v, and before as %+v", now, lost)
				}
				time.Sleep(2 * time.Second)
				route := a.lookup(t, s.ID)
				if got := route.Session.Engine.ID; got != now.Engine.ID {
					t.Errorf("led to %s, and it runs on %s", got, now.Engine.ID)
				}
				if got := route.Spark(spark).ServerID(); got != "other" {
					t.Errorf("its Spark session is called %q, as on the other engine", got)
				}
				time.Sleep(time.Minute / 2)
				l.engines(3, 1)
			})
		})
	}
}

// impatient gives up on a lookup that reads too often.
type impatient struct {
	*storetest.Memory
	reads  atomic.Int32
	giveUp context.CancelFunc
}

func (i *impatient) Get(ctx context.Context, ids ...sessions.ID) ([]sessions.Session, error) {
	if i.reads.Add(1) == 20 {
		i.giveUp()
	}
	return i.Memory.Get(ctx, ids...)
}

// The cache takes a session for idle that the registry has as active again. Nothing is
// to be woken, and that is not asked again and again.
func TestLookupOfWhatIsNotToBeWoken(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a := l.replica()
		s := l.pending("c")
		active := a.lookup(t, s.ID).Session
		step(t, l.memory, active, sessions.Idle)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		registry := &impatient{Memory: l.memory, giveUp: cancel}
		r, err := sessions.NewResolver(sessions.ResolverConfig{Directory: registry, Clusters: l.clusters, Waker: a.waker})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Record(ctx, s.ID); err != nil {
			t.Fatal(err)
		}
		l.memory.Put(active)
		route, err := r.Lookup(ctx, s.ID)
		if err != nil || route.Session.Revision != active.Revision {
			t.Errorf("%v after %d reads", err, registry.reads.Load())
		}
		if n := registry.reads.Load(); n > 5 {
			t.Errorf("%d reads", n)
		}
	})
}
