package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sconce-dev/sconce/sessions"
)

func testBindFirstUse(t *testing.T, s *suite) {
	mine, spark, second := s.active(t, "ann", "a"), newSpark(), newSpark()
	must(t, s.Bind(t.Context(), mine.ID, spark))
	must(t, s.Bind(t.Context(), mine.ID, spark))
	must(t, s.Bind(t.Context(), mine.ID, second))
	bound, err := s.Bound(t.Context(), mine.ID)
	must(t, err)
	slices.Sort(bound)
	want := []sessions.SparkID{spark, second}
	slices.Sort(want)
	if !slices.Equal(bound, want) {
		t.Errorf("bound %v, want %v", bound, want)
	}
}

// The same owner's other session is another session: engines can't tell them apart.
func testBindForeign(t *testing.T, s *suite) {
	spark := newSpark()
	must(t, s.Bind(t.Context(), s.active(t, "ann", "a").ID, spark))
	for _, owner := range []string{"ann", "bob"} {
		other := s.active(t, owner, "other")
		wantError(t, s.Bind(t.Context(), other.ID, spark), sessions.ErrForeignSpark)
		bound, err := s.Bound(t.Context(), other.ID)
		must(t, err)
		if len(bound) != 0 {
			t.Errorf("refused, but bound: %v", bound)
		}
	}
}

func testBindForeignAfterClose(t *testing.T, s *suite) {
	mine, spark := s.active(t, "ann", "a"), newSpark()
	must(t, s.Bind(t.Context(), mine.ID, spark))
	s.step(t, mine, sessions.Closed)
	other := s.active(t, "bob", "b")
	wantError(t, s.Bind(t.Context(), other.ID, spark), sessions.ErrForeignSpark)
	bound, err := s.Bound(t.Context(), mine.ID)
	must(t, err)
	if !slices.Equal(bound, []sessions.SparkID{spark}) {
		t.Errorf("a closed session's ids are %v", bound)
	}
}

func testBindRace(t *testing.T, s *suite) {
	spark := newSpark()
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		mine := s.active(t, "ann", "")
		wg.Go(func() {
			err := s.Bind(context.Background(), mine.ID, spark)
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, sessions.ErrForeignSpark) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d sessions have one Spark session", won.Load())
	}
}

func testBindClosedAndNone(t *testing.T, s *suite) {
	mine, spark := s.active(t, "ann", "a"), newSpark()
	must(t, s.Bind(t.Context(), mine.ID, spark))
	s.step(t, mine, sessions.Closed)
	wantError(t, s.Bind(t.Context(), mine.ID, spark), sessions.ErrClosed)
	wantError(t, s.Bind(t.Context(), mine.ID, newSpark()), sessions.ErrClosed)

	free := newSpark()
	wantError(t, s.Bind(t.Context(), s.session(t, "ann", "none").ID, free), sessions.ErrNotFound)
	wantError(t, s.Bind(t.Context(), "no id", free), sessions.ErrNotFound)
	must(t, s.Bind(t.Context(), s.active(t, "bob", "b").ID, free))
}

func testBindTooMany(t *testing.T, s *suite) {
	mine := s.active(t, "ann", "a")
	var has []sessions.SparkID
	for range MaxBound {
		has = append(has, newSpark())
		must(t, s.Bind(t.Context(), mine.ID, has[len(has)-1]))
	}
	over := newSpark()
	wantError(t, s.Bind(t.Context(), mine.ID, over), sessions.ErrTooManyBound)
	must(t, s.Bind(t.Context(), mine.ID, has[0]))
	must(t, s.Bind(t.Context(), s.active(t, "bob", "b").ID, over))
}
