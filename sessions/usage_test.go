package sessions_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// An operation that was released, by way of whatever replica, keeps nothing awake.
func TestReleasedOperation(t *testing.T) {
	rows := map[string]func(t *testing.T, a, b *sessions.Route){
		"here": func(t *testing.T, a, _ *sessions.Route) {
			a.OperationDetached("op", time.Now())
			time.Sleep(10 * time.Second)
			a.OperationReleased("op")
		},
		"elsewhere": func(t *testing.T, a, b *sessions.Route) {
			a.OperationDetached("op", time.Now())
			time.Sleep(10 * time.Second)
			b.OperationReleased("op")
		},
		"elsewhere, before it was told of": func(t *testing.T, a, b *sessions.Route) {
			b.OperationReleased("op")
			time.Sleep(10 * time.Second)
			a.OperationDetached("op", time.Now()) // that its client is gone was heard of late
		},
		"on both": func(t *testing.T, a, b *sessions.Route) {
			a.OperationDetached("op", time.Now())
			b.OperationDetached("op", time.Now())
			time.Sleep(10 * time.Second)
			b.OperationReleased("op")
			a.OperationReleased("op")
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
				a, b := l.replica(), l.replica()
				s := l.pending("c")
				row(t, a.lookup(t, s.ID), b.lookup(t, s.ID))
				time.Sleep(2 * idleAfter)
				l.state(s.ID, sessions.Idle)
			})
		})
	}
}

// One that failed on another replica may be begun anew under its id, and is not forgotten.
func TestFailedElsewhereIsNotReleased(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a, b := l.replica(), l.replica()
		s := l.pending("c")
		b.lookup(t, s.ID).OperationOver("op")
		a.lookup(t, s.ID).OperationDetached("op", time.Now())
		time.Sleep(2 * idleAfter)
		l.state(s.ID, sessions.Active)
	})
}

// Floods of operations cost the registry little, also after it was away for long, and keep
// nobody's session from being told of.
func TestManyOperations(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a := l.replica()
		s, other := l.pending("c"), l.pending("c")
		route, beside := a.lookup(t, s.ID), a.lookup(t, other.ID)
		l.memory.Fail(sessions.ErrUnavailable)
		for i := range 20_000 {
			op := strconv.Itoa(i)
			route.OperationDetached(op, time.Now())
			route.OperationOver("over " + op)
			route.OperationReleased("released " + op)
			if i%1000 == 0 {
				time.Sleep(time.Second)
			}
		}
		told := make(chan int, 1000)
		l.memory.OnTouch(func(uses []sessions.Use) {
			for _, u := range uses {
				if u.ID == s.ID {
					told <- len(u.Running) + len(u.Over) + len(u.Released)
				}
			}
		})
		l.memory.Fail(nil)
		beside.Use()
		time.Sleep(10 * time.Second)
		if n := <-told; n < 700 || n > 1000 {
			t.Errorf("the registry was told of %d operations at once", n)
		}
		for i := range 20_000 {
			route.OperationReleased(strconv.Itoa(i))
		}
		time.Sleep(5*time.Minute + 2*idleAfter) // what was left out counts for so long
		l.state(s.ID, sessions.Idle)
	})
}

// What was over while the registry was away is told once it is back.
func TestReleasedWhileTheRegistryIsAway(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a := l.replica()
		s := l.pending("c")
		route := a.lookup(t, s.ID)
		route.OperationDetached("op", time.Now())
		time.Sleep(10 * time.Second)
		l.memory.Fail(sessions.ErrUnavailable)
		route.OperationReleased("op")
		time.Sleep(10 * time.Second)
		l.memory.Fail(nil)
		time.Sleep(2 * idleAfter)
		l.state(s.ID, sessions.Idle)
	})
}
