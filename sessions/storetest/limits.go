package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

func wantLimit(t *testing.T, err error, limit string, most int) {
	t.Helper()
	wantLimitOf(t, sessions.ErrTooManySessions, err, limit, most)
}

func wantLimitOf(t *testing.T, kind, err error, limit string, most int) {
	t.Helper()
	var reached *sessions.LimitError
	if !errors.As(err, &reached) || reached.Limit != limit || reached.Max != most || !errors.Is(err, kind) {
		t.Errorf("error %v, want limit %s of %d", err, limit, most)
	}
}

// Open sessions count, in every state; a close makes room. A request that was
// refused leaves nothing behind: its name and its id may come again.
func testTooManyOfAnOwner(t *testing.T, s *suite) {
	var made []sessions.Session
	for i := range MaxOwned {
		made = append(made, s.create(t, "ann", fmt.Sprint(i)))
	}
	s.step(t, made[0], sessions.Failed)
	for range 2 {
		_, err := s.Create(t.Context(), s.session(t, "ann", "more"), "r")
		wantLimit(t, err, sessions.LimitPerOwner, MaxOwned)
	}
	_, err := s.Create(t.Context(), s.session(t, "ann", "3"), "")
	wantError(t, err, sessions.ErrNameTaken)
	s.create(t, "bob", "his own")
	if got := s.listAll(t, sessions.Query{Org: s.org, Owner: "ann", Closed: true, Limit: 50}); len(got) != MaxOwned {
		t.Errorf("%d are listed, want %d", len(got), MaxOwned)
	}
	s.step(t, s.step(t, made[1], sessions.Active), sessions.Closed)
	asked := s.session(t, "ann", "more")
	again, err := s.Create(t.Context(), asked, "r")
	must(t, err)
	if again.ID != asked.ID {
		t.Error("the refused request was remembered")
	}
}

func testTooManyInOneOrg(t *testing.T, s *suite) {
	var made []sessions.Session
	for i := range MaxInOrg {
		made = append(made, s.create(t, fmt.Sprint("owner ", i%3), fmt.Sprint(i)))
	}
	for range 2 {
		_, err := s.Create(t.Context(), s.session(t, "ann", "more"), "r")
		wantLimit(t, err, sessions.LimitPerOrg, MaxInOrg)
	}
	if got := s.listAll(t, sessions.Query{Org: s.org, Owner: "ann", Closed: true, Limit: 50}); len(got) != 0 {
		t.Errorf("a refused session is listed: %v", got)
	}
	_, err := s.Transition(t.Context(), made[0].ID, sessions.CloseAt(s.now, ""))
	must(t, err)
	asked := s.session(t, "ann", "more")
	again, err := s.Create(t.Context(), asked, "r")
	must(t, err)
	if again.ID != asked.ID {
		t.Error("the refused request was remembered")
	}
	_, err = s.Create(t.Context(), s.session(t, "ann", "still more"), "")
	wantLimit(t, err, sessions.LimitPerOrg, MaxInOrg)
}

// However many come at once, no more get in than may.
func testLimitRace(t *testing.T, s *suite) {
	raceTo(t, limited{sessions.LimitPerOwner, MaxOwned}, limited{sessions.LimitPerOrg, MaxInOrg - MaxOwned}, 2*MaxInOrg, func(owner string) func() error {
		asked := s.session(t, owner, "")
		return func() error {
			_, err := s.Create(context.Background(), asked, "")
			return err
		}
	})
}

// limited is a limit, and how many it lets in.
type limited struct {
	limit string
	most  int
}

// raceTo has n come at once, first of one owner and then each of an owner of his own:
// as many get in as may, and the others are refused by the limit's name.
func raceTo(t *testing.T, owned, inOrg limited, n int, prepare func(owner string) (come func() error)) {
	t.Helper()
	for _, c := range []struct {
		limited
		owner func(i int) string
	}{
		{owned, func(int) string { return "ann" }},
		{inOrg, func(i int) string { return fmt.Sprint("owner ", i) }},
	} {
		var in atomic.Int32
		var wg sync.WaitGroup
		for i := range n {
			come := prepare(c.owner(i))
			wg.Go(func() {
				err := come()
				var reached *sessions.LimitError
				switch {
				case err == nil:
					in.Add(1)
				case !errors.As(err, &reached) || reached.Limit != c.limit:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if int(in.Load()) != c.most {
			t.Errorf("%s: %d got in, want %d", c.limit, in.Load(), c.most)
		}
	}
}

// A session is due at its time, is given to one at a time, and is due no more when it
// is closed.
func testDeadlines(t *testing.T, s *suite) {
	aged := func(age time.Duration) sessions.Session {
		made := s.create(t, "ann", "")
		if age != 0 {
			must(t, s.SetDue(t.Context(), made.ID, s.now.Add(age)))
		}
		return made
	}
	begin := s.now
	old, older, young, ageless := aged(2*time.Hour), aged(time.Hour), aged(24*time.Hour), aged(0)
	due := func(now time.Time, want ...sessions.ID) {
		t.Helper()
		got, err := s.TakeDue(t.Context(), now, now.Add(time.Minute), 100)
		must(t, err)
		got = slices.DeleteFunc(got, func(id sessions.ID) bool { // of other tests
			return !slices.Contains([]sessions.ID{old.ID, older.ID, young.ID, ageless.ID}, id)
		})
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("after %s: %v are due, want %v", now.Sub(begin), got, want)
		}
	}
	due(begin)
	due(begin.Add(61*time.Minute), older.ID)
	due(begin.Add(61*time.Minute + 30*time.Second))
	later := begin.Add(3 * time.Hour)
	due(later, old.ID, older.ID)
	_, err := s.Transition(t.Context(), old.ID, sessions.CloseAt(later, ""))
	must(t, err)
	must(t, s.DropDue(t.Context(), older.ID))
	due(later.Add(time.Hour))
	must(t, s.SetDue(t.Context(), young.ID, later.Add(2*time.Hour)))
	due(later.Add(90 * time.Minute))
	due(later.Add(2*time.Hour), young.ID)
	must(t, s.PutOff(t.Context(), young.ID, later.Add(4*time.Hour)))
	must(t, s.PutOff(t.Context(), ageless.ID, later))
	must(t, s.PutOff(t.Context(), old.ID, later)) // it is closed
	due(later.Add(3 * time.Hour))
	due(later.Add(4*time.Hour), young.ID)
}
