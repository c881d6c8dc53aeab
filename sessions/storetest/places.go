package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
)

// placed is an engine with a place, as a waker has it.
type placed struct {
	key    sessions.EngineKey
	place  sessions.Place
	member sessions.ID
}

// launching takes an engine's lease.
func (s *suite) launching(t *testing.T, owner string) placed {
	t.Helper()
	e := placed{sessions.EngineKey("session:" + uuid.NewString()), sessions.Place{Org: s.org, Owner: owner, Lease: uuid.NewString()}, s.session(t, owner, "").ID}
	s.lease(t, e.key, e.place.Lease, true)
	return e
}

func (s *suite) takes(t *testing.T, owner string) placed {
	t.Helper()
	e := s.launching(t, owner)
	must(t, s.TakePlace(t.Context(), e.key, e.place))
	return e
}

// isFull says that neither now nor at the next try there is a place.
func (s *suite) isFull(t *testing.T, owner, limit string, most int) {
	t.Helper()
	for range 2 {
		e := s.launching(t, owner)
		wantLimit(t, s.TakePlace(t.Context(), e.key, e.place), limit, most)
	}
}

// putUp records the engine, and gives the lease back.
func (s *suite) putUp(t *testing.T, e placed) sessions.Instance {
	t.Helper()
	in := sessions.Instance{ID: uuid.NewString(), Address: "127.0.0.1:1", StartedAt: s.now}
	must(t, s.PutEngine(t.Context(), sessions.EngineRecord{
		Key: e.key, Cluster: "c", Instance: in, Place: e.place, Members: map[sessions.ID]uint64{e.member: 1},
	}, e.place.Lease))
	must(t, s.UnleaseEngine(t.Context(), e.key, e.place.Lease))
	return in
}

// Launches under way and engines that are up count, of their owner and of their
// organisation, and nowhere else.
func testPlaces(t *testing.T, s *suite) {
	first := s.takes(t, "ann")
	must(t, s.TakePlace(t.Context(), first.key, first.place)) // it has it already
	in := s.putUp(t, first)
	if e := s.up(t, first.key); e == nil || e.Place != first.place || e.Instance != in {
		t.Errorf("it is recorded as %+v, with place %+v", e, first.place)
	}
	for range MaxOwnedEngines - 1 {
		s.takes(t, "ann")
	}
	s.isFull(t, "ann", sessions.LimitEnginesPerOwner, MaxOwnedEngines)
	for range MaxOrgEngines - MaxOwnedEngines {
		s.takes(t, "bob")
	}
	s.isFull(t, "cid", sessions.LimitEnginesPerOrg, MaxOrgEngines)
	s.org = uuid.NewString()
	s.takes(t, "ann")
}

// A place ends with its engine, however that ends, with a launch that came to
// nothing, and with its lease where whoever held it died. The place of the next
// engine by the same key stays.
func testPlacesEnd(t *testing.T, s *suite) {
	left, ended, failed := s.takes(t, "ann"), s.takes(t, "ann"), s.takes(t, "ann")
	s.putUp(t, left)
	in := s.putUp(t, ended)
	s.isFull(t, "ann", sessions.LimitEnginesPerOwner, MaxOwnedEngines)

	must(t, s.FreePlace(t.Context(), failed.key, failed.place))
	crashed := s.takes(t, "ann")
	s.isFull(t, "ann", sessions.LimitEnginesPerOwner, MaxOwnedEngines)

	if stop, err := s.LeaveEngine(t.Context(), left.key, left.member, 1); err != nil || stop == nil {
		t.Fatalf("left: %v, %v", stop, err)
	}
	again := left
	again.place.Lease = uuid.NewString()
	s.lease(t, again.key, again.place.Lease, true)
	must(t, s.TakePlace(t.Context(), again.key, again.place))
	must(t, s.FreePlace(t.Context(), left.key, left.place)) // it comes late
	s.isFull(t, "ann", sessions.LimitEnginesPerOwner, MaxOwnedEngines)

	if _, err := s.DropEngine(t.Context(), ended.key, in.ID); err != nil {
		t.Fatal(err)
	}
	s.takes(t, "ann")
	s.isFull(t, "ann", sessions.LimitEnginesPerOwner, MaxOwnedEngines)

	must(t, s.UnleaseEngine(t.Context(), crashed.key, crashed.place.Lease)) // as if it had run out
	s.takes(t, "ann")
	s.isFull(t, "ann", sessions.LimitEnginesPerOwner, MaxOwnedEngines)
}

// However many launches come at once, no more get a place than there are.
func testPlaceRace(t *testing.T, s *suite) {
	raceTo(t, limited{sessions.LimitEnginesPerOwner, MaxOwnedEngines}, limited{sessions.LimitEnginesPerOrg, MaxOrgEngines - MaxOwnedEngines}, 4*MaxOrgEngines,
		func(owner string) func() error {
			e := s.launching(t, owner)
			return func() error {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				return s.TakePlace(ctx, e.key, e.place)
			}
		})
}
