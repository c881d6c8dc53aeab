package sessions_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
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
