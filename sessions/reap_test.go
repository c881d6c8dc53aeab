package sessions_test

import (
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
