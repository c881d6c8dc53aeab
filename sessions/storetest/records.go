package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sconce-dev/sconce/sessions"
)

func testCreate(t *testing.T, s *suite) {
	asked := s.session(t, "ann", "notebook 1")
	made, err := s.Create(t.Context(), asked, "")
	must(t, err)
	want := asked
	want.Revision, want.ChangedAt = made.Revision, asked.CreatedAt
	wantSession(t, made, want)

	nameless := s.session(t, "ann", "")
	made, err = s.Create(t.Context(), nameless, "")
	must(t, err)
	if made.Name != string(nameless.ID) {
		t.Errorf("a session without a name is called %q", made.Name)
	}
}

func testCreateAgain(t *testing.T, s *suite) {
	first, err := s.Create(t.Context(), s.session(t, "ann", "a"), "request-1")
	must(t, err)
	first = s.step(t, first, sessions.Active)
	again, err := s.Create(t.Context(), s.session(t, "ann", "a"), "request-1")
	must(t, err)
	wantSession(t, again, first)
	page, err := s.List(t.Context(), sessions.Query{Org: s.org, Owner: "ann", Limit: 10})
	must(t, err)
	if len(page.Sessions) != 1 {
		t.Errorf("%d sessions after one request came twice", len(page.Sessions))
	}

	// Once it is forgotten, by whoever it was for, it makes another.
	must(t, s.Unrequest(t.Context(), s.session(t, "ann", "b"), "request-1"))
	again, err = s.Create(t.Context(), s.session(t, "ann", "b"), "request-1")
	must(t, err)
	wantSession(t, again, first)
	must(t, s.Unrequest(t.Context(), first, "request-1"))
	other, err := s.Create(t.Context(), s.session(t, "ann", "b"), "request-1")
	must(t, err)
	if other.ID == first.ID {
		t.Error("a request that is forgotten gave the session that it made before")
	}
}

// One request sent many times at once makes one session, and no late copy of it
// undoes what happened to the session meanwhile.
func testCreateRace(t *testing.T, s *suite) {
	ids := make(chan sessions.ID, 8)
	var wg sync.WaitGroup
	for range cap(ids) {
		asked := s.session(t, "ann", "a")
		wg.Go(func() {
			made, err := s.Create(context.Background(), asked, "request-1")
			if err != nil {
				t.Error(err)
				return
			}
			ids <- made.ID
			_, err = s.Transition(context.Background(), made.ID, sessions.Transition{From: sessions.Pending, To: sessions.Active, At: made.CreatedAt})
			if err != nil && !errors.Is(err, sessions.ErrConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(ids)
	one := <-ids
	for id := range ids {
		if id != one {
			t.Errorf("one request made %s and %s", one, id)
		}
	}
	found, err := s.Get(t.Context(), one)
	must(t, err)
	if found[0].State != sessions.Active || found[0].Generation != 1 || found[0].Revision != 2 {
		t.Errorf("after one activation: %+v", found[0])
	}
}

func testRequestIDsAreTheOwners(t *testing.T, s *suite) {
	one, err := s.Create(t.Context(), s.session(t, "ann", "a"), "request-1")
	must(t, err)
	other, err := s.Create(t.Context(), s.session(t, "bob", "a"), "request-1")
	must(t, err)
	if one.ID == other.ID || other.Owner != "bob" {
		t.Error("a request id of one owner gave another owner's session")
	}
}

func testNameTaken(t *testing.T, s *suite) {
	held := s.create(t, "ann", "a")
	_, err := s.Create(t.Context(), s.session(t, "ann", "a"), "")
	wantError(t, err, sessions.ErrNameTaken)
	s.create(t, "ann", "b")
	s.create(t, "bob", "a")
	s.step(t, held, sessions.Failed)
	_, err = s.Create(t.Context(), s.session(t, "ann", "a"), "")
	wantError(t, err, sessions.ErrNameTaken)

	_, err = s.Transition(t.Context(), held.ID, sessions.CloseAt(s.now, ""))
	must(t, err)
	s.create(t, "ann", "a")
}

func testNameRace(t *testing.T, s *suite) {
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		asked := s.session(t, "ann", "a")
		wg.Go(func() {
			_, err := s.Create(context.Background(), asked, "")
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, sessions.ErrNameTaken) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d sessions of one name", won.Load())
	}
}

func testGet(t *testing.T, s *suite) {
	a, b, none := s.create(t, "ann", "a"), s.create(t, "bob", "b"), s.session(t, "ann", "none")
	got, err := s.Get(t.Context(), b.ID, none.ID, "no id at all}", a.ID)
	must(t, err)
	if !slices.Equal(got, []sessions.Session{b, a}) {
		t.Errorf("got %+v", got)
	}
	got, err = s.Get(t.Context())
	must(t, err)
	if len(got) != 0 {
		t.Errorf("got %d sessions for no id", len(got))
	}
}

func testListPages(t *testing.T, s *suite) {
	var want []sessions.ID
	for i := range 7 {
		made := s.create(t, "ann", fmt.Sprint(i))
		if i == 3 {
			_, err := s.Transition(t.Context(), made.ID, sessions.CloseAt(s.now, ""))
			must(t, err)
			continue
		}
		want = append(want, made.ID)
	}
	slices.Reverse(want)
	for limit := 1; limit <= 8; limit++ {
		if got := s.listAll(t, sessions.Query{Org: s.org, Owner: "ann", Limit: limit}); !slices.Equal(got, want) {
			t.Errorf("limit %d: listed %v, want %v", limit, got, want)
		}
	}
}

// listAll follows the pages to the end.
func (s *suite) listAll(t failer, q sessions.Query) []sessions.ID {
	t.Helper()
	var ids []sessions.ID
	for range 100 {
		page, err := s.List(context.Background(), q)
		must(t, err)
		if len(page.Sessions) > q.Limit {
			t.Errorf("a page of %d, limit %d", len(page.Sessions), q.Limit)
		}
		for _, one := range page.Sessions {
			ids = append(ids, one.ID)
		}
		if page.Next == "" {
			return ids
		}
		q.After = page.Next
	}
	t.Fatal("the list has no end")
	return nil
}

func testListSelects(t *testing.T, s *suite) {
	a1, b1, a2 := s.create(t, "ann", "one"), s.create(t, "bob", "one"), s.create(t, "ann", "two")
	_, err := s.Transition(t.Context(), a1.ID, sessions.CloseAt(s.now, ""))
	must(t, err)
	tests := []struct {
		name string
		q    sessions.Query
		want []sessions.ID
	}{
		{"an owner", sessions.Query{Owner: "ann"}, []sessions.ID{a2.ID}},
		{"an owner, closed too", sessions.Query{Owner: "ann", Closed: true}, []sessions.ID{a2.ID, a1.ID}},
		{"the organisation", sessions.Query{}, []sessions.ID{a2.ID, b1.ID}},
		{"the organisation, closed too", sessions.Query{Closed: true}, []sessions.ID{a2.ID, b1.ID, a1.ID}},
		{"a name", sessions.Query{Owner: "ann", Name: "two"}, []sessions.ID{a2.ID}},
		{"a name of a closed session", sessions.Query{Owner: "ann", Name: "one"}, nil},
		{"a name of somebody else", sessions.Query{Owner: "bob", Name: "two"}, nil},
	}
	for _, test := range tests {
		test.q.Org, test.q.Limit = s.org, 10
		if got := s.listAll(t, test.q); !slices.Equal(got, test.want) {
			t.Errorf("%s: listed %v, want %v", test.name, got, test.want)
		}
	}
}

func testListUnknownOwner(t *testing.T, s *suite) {
	if got := s.listAll(t, sessions.Query{Org: s.org, Owner: "nobody", Limit: 5}); got != nil {
		t.Errorf("listed %v of nobody", got)
	}
}

func testCancelled(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, s.create(t, "ann", "a").ID)
	if errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("a caller that gave up reads as an outage: %v", err)
	}
}
