package storetest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

func (s *suite) takeTurn(t *testing.T, id sessions.ID, spark sessions.SparkID, holder string, want sessions.Turn) {
	t.Helper()
	got, err := s.TakeTurn(t.Context(), id, spark, holder, time.Minute)
	must(t, err)
	if got != want {
		t.Errorf("%s hears %q, want %q", holder, got, want)
	}
}

// One prepares, the others wait, and once it is bound nobody prepares it again. A
// turn that led to nothing passes on.
func testTurns(t *testing.T, s *suite) {
	one, spark := s.active(t, "ann", "a"), newSpark()
	s.takeTurn(t, one.ID, spark, "x", sessions.TurnMine)
	s.takeTurn(t, one.ID, spark, "y", sessions.TurnTaken)
	s.takeTurn(t, one.ID, spark, "x", sessions.TurnMine)
	must(t, s.GiveTurn(t.Context(), one.ID, spark, "y")) // it was not y's
	s.takeTurn(t, one.ID, spark, "y", sessions.TurnTaken)
	bound, err := s.Bound(t.Context(), one.ID)
	must(t, err)
	if len(bound) != 0 {
		t.Errorf("bound before it was prepared: %v", bound)
	}
	must(t, s.GiveTurn(t.Context(), one.ID, spark, "x"))
	s.takeTurn(t, one.ID, spark, "y", sessions.TurnMine)
	must(t, s.Bind(t.Context(), one.ID, spark))
	s.takeTurn(t, one.ID, spark, "x", sessions.TurnOver)
	must(t, s.GiveTurn(t.Context(), one.ID, spark, "y"))
	s.takeTurn(t, one.ID, spark, "x", sessions.TurnOver)
	if bound, err = s.Bound(t.Context(), one.ID); err != nil || len(bound) != 1 {
		t.Errorf("bound: %v, %v", bound, err)
	}
}

// A Spark id is its session's from the first turn on.
func testTurnsRefused(t *testing.T, s *suite) {
	one, other, spark := s.active(t, "ann", "a"), s.active(t, "bob", "b"), newSpark()
	take := func(id sessions.ID, spark sessions.SparkID) error {
		_, err := s.TakeTurn(t.Context(), id, spark, "x", time.Minute)
		return err
	}
	must(t, take(one.ID, spark))
	wantError(t, take(other.ID, spark), sessions.ErrForeignSpark)
	wantError(t, s.Bind(t.Context(), other.ID, spark), sessions.ErrForeignSpark)
	wantError(t, take(s.session(t, "ann", "none").ID, newSpark()), sessions.ErrNotFound)
	for range MaxBound {
		must(t, s.Bind(t.Context(), one.ID, newSpark()))
	}
	wantError(t, take(one.ID, newSpark()), sessions.ErrTooManyBound)
	s.step(t, one, sessions.Closed)
	wantError(t, take(one.ID, spark), sessions.ErrClosed)
	wantError(t, take(other.ID, spark), sessions.ErrForeignSpark)
}

func testTurnRace(t *testing.T, s *suite) {
	one, spark := s.active(t, "ann", "a"), newSpark()
	var mine atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		holder := string(newSpark())
		wg.Go(func() {
			turn, err := s.TakeTurn(context.Background(), one.ID, spark, holder, time.Minute)
			if err != nil {
				t.Error(err)
			}
			if turn == sessions.TurnMine {
				mine.Add(1)
			}
		})
	}
	wg.Wait()
	if mine.Load() != 1 {
		t.Errorf("%d have the turn", mine.Load())
	}
}
