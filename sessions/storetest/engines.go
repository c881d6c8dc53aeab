package storetest

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
)

const ttl = time.Minute

// put brings an engine up with one member.
func (s *suite) put(t *testing.T, key sessions.EngineKey, id sessions.ID, generation uint64) sessions.Instance {
	t.Helper()
	in := sessions.Instance{ID: uuid.NewString(), Address: "127.0.0.1:1", Token: "t", StartedAt: s.now}
	s.lease(t, key, "me", true)
	must(t, s.PutEngine(t.Context(), sessions.EngineRecord{
		Key: key, Cluster: "c", Instance: in, Members: map[sessions.ID]uint64{id: generation},
	}, "me"))
	must(t, s.UnleaseEngine(t.Context(), key, "me"))
	return in
}

func (s *suite) lease(t *testing.T, key sessions.EngineKey, token string, want bool) {
	t.Helper()
	got, err := s.LeaseEngine(t.Context(), key, token, ttl)
	must(t, err)
	if got != want {
		t.Errorf("lease by %s: %v, want %v", token, got, want)
	}
}

// touch tells of uses, and expects that none of what runs was released elsewhere.
func (s *suite) touch(t *testing.T, uses ...sessions.Use) {
	t.Helper()
	s.touchGone(t, nil, uses...)
}

func (s *suite) touchGone(t *testing.T, want map[sessions.ID][]string, uses ...sessions.Use) {
	t.Helper()
	gone, err := s.Touch(t.Context(), uses)
	must(t, err)
	if !maps.EqualFunc(gone, want, slices.Equal) {
		t.Errorf("it was released elsewhere: %v, want %v", gone, want)
	}
}

func (s *suite) engineKey() sessions.EngineKey {
	return sessions.EngineKey("cluster:" + uuid.NewString())
}

func (s *suite) up(t *testing.T, key sessions.EngineKey) *sessions.EngineRecord {
	t.Helper()
	all, err := s.Engines(t.Context())
	must(t, err)
	for _, e := range all {
		if e.Key == key {
			return &e
		}
	}
	return nil
}

// An engine is up from its Put until its last member left, and then it is stopped by one.
func testEngineLife(t *testing.T, s *suite) {
	a, b, key := s.create(t, "ann", ""), s.create(t, "ann", ""), s.engineKey()
	_, err := s.JoinEngine(t.Context(), key, a.ID, 1)
	wantError(t, err, sessions.ErrEngineDown)
	in := s.put(t, key, a.ID, 1)
	if e := s.up(t, key); e == nil || e.Instance != in || e.Cluster != "c" || e.Members[a.ID] != 1 {
		t.Errorf("it is recorded as %+v, want %+v", e, in)
	}
	got, err := s.JoinEngine(t.Context(), key, b.ID, 7)
	must(t, err)
	if got != in {
		t.Errorf("joined %+v, want %+v", got, in)
	}
	_, err = s.JoinEngine(t.Context(), key, b.ID, 6) // by somebody who slept meanwhile
	must(t, err)
	for _, step := range []struct {
		id         sessions.ID
		generation uint64
		last       bool
	}{{b.ID, 6, false}, {a.ID, 1, false}, {a.ID, 1, false}, {b.ID, 6, false}, {b.ID, 7, true}, {b.ID, 7, false}} {
		stop, err := s.LeaveEngine(t.Context(), key, step.id, step.generation)
		must(t, err)
		if (stop != nil) != step.last || step.last && *stop != in {
			t.Errorf("leave %+v: %+v", step, stop)
		}
	}
	if e := s.up(t, key); e != nil {
		t.Errorf("it is still up: %+v", e)
	}
	s.put(t, key, a.ID, 2) // and up again
}

// To put an engine up takes its lease, still.
func testEngineLease(t *testing.T, s *suite) {
	a, key := s.create(t, "ann", ""), s.engineKey()
	s.lease(t, key, "one", true)
	s.lease(t, key, "one", true)
	s.lease(t, key, "two", false)
	must(t, s.UnleaseEngine(t.Context(), key, "two"))
	held, err := s.EngineLeased(t.Context(), key)
	must(t, err)
	if !held {
		t.Error("somebody else gave the lease back")
	}
	record := sessions.EngineRecord{Key: key, Cluster: "c", Instance: sessions.Instance{ID: "x"}, Members: map[sessions.ID]uint64{a.ID: 1}}
	wantError(t, s.PutEngine(t.Context(), record, "two"), sessions.ErrLeaseLost)
	must(t, s.PutEngine(t.Context(), record, "one"))
	must(t, s.PutEngine(t.Context(), record, "one")) // by who did not hear the answer
	record.ID = "y"
	wantError(t, s.PutEngine(t.Context(), record, "one"), sessions.ErrConflict)
	must(t, s.UnleaseEngine(t.Context(), key, "one"))
	s.lease(t, key, "two", true)

	// A lease runs out.
	other := s.engineKey()
	got, err := s.LeaseEngine(t.Context(), other, "one", 50*time.Millisecond)
	must(t, err)
	if !got {
		t.Error("a free lease was refused")
	}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		got, err := s.LeaseEngine(t.Context(), other, "two", ttl)
		must(t, err)
		if got {
			break
		}
		if time.Since(began) > 10*time.Second {
			t.Fatal("a lease does not run out")
		}
	}
	mine, err := s.LeaseSession(t.Context(), a.ID, "one", ttl)
	must(t, err)
	yours, err := s.LeaseSession(t.Context(), a.ID, "two", ttl)
	must(t, err)
	if !mine || yours {
		t.Errorf("the session's lease: %v and %v", mine, yours)
	}
}

// An engine that ended takes all its members with it, once.
func testDropEngine(t *testing.T, s *suite) {
	a, b, key := s.create(t, "ann", ""), s.create(t, "ann", ""), s.engineKey()
	in := s.put(t, key, a.ID, 1)
	_, err := s.JoinEngine(t.Context(), key, b.ID, 3)
	must(t, err)
	none, err := s.DropEngine(t.Context(), key, "another")
	must(t, err)
	all, err := s.DropEngine(t.Context(), key, in.ID)
	must(t, err)
	again, err := s.DropEngine(t.Context(), key, in.ID)
	must(t, err)
	if len(none)+len(again) != 0 || len(all) != 2 || all[a.ID] != 1 || all[b.ID] != 3 {
		t.Errorf("dropped %v, then %v, then %v", none, all, again)
	}
}

// Of many that leave at once one is told to stop the engine; of many that join
// while the last one leaves, each finds it up for good or down.
func testEngineRace(t *testing.T, s *suite) {
	a, b := s.create(t, "ann", ""), s.create(t, "ann", "")
	for range 20 {
		key := s.engineKey()
		s.put(t, key, a.ID, 1)
		var wg sync.WaitGroup
		var stopped *sessions.Instance
		var joined error
		wg.Go(func() { stopped, _ = s.LeaveEngine(context.Background(), key, a.ID, 1) })
		wg.Go(func() { _, joined = s.JoinEngine(context.Background(), key, b.ID, 1) })
		wg.Wait()
		if (stopped == nil) != (joined == nil) {
			t.Fatalf("stopped %v while the join said %v", stopped, joined)
		}
	}
}

// A session is made idle only when it was not used for that long, by the
// registry's clock, and has no operation.
func testUnused(t *testing.T, s *suite) {
	long, short := time.Hour, time.Millisecond
	try := func(have sessions.Session, unused, skew time.Duration) (sessions.Session, error) {
		tr := s.transition(have, sessions.Idle)
		tr.Unused, tr.Skew = unused, skew
		return s.Transition(t.Context(), have.ID, tr)
	}
	have := s.in(t, sessions.Active)
	found, err := s.Get(t.Context(), have.ID)
	must(t, err)
	clock, err := s.Clock(t.Context())
	must(t, err)
	if age := clock.Sub(found[0].UsedAt); age < 0 || age > time.Minute {
		t.Errorf("an active session was used %v ago", age)
	}
	time.Sleep(5 * time.Millisecond)
	_, err = try(have, long, 0)
	wantError(t, err, sessions.ErrConflict)
	_, err = try(have, short, long) // the clock jumped an hour ahead
	wantError(t, err, sessions.ErrConflict)
	s.touch(t, sessions.Use{ID: have.ID, Running: []string{"op-1", "op-2"}}, sessions.Use{ID: "s-none"})
	running := func(want int) {
		t.Helper()
		if n, err := s.Running(t.Context(), have.ID); n != want || err != nil {
			t.Errorf("%d operations run (%v), want %d", n, err, want)
		}
	}
	running(2)
	time.Sleep(5 * time.Millisecond)
	_, err = try(have, short, 0)
	wantError(t, err, sessions.ErrConflict)
	s.touch(t, sessions.Use{ID: have.ID, Running: []string{"op-2"}, Over: []string{"op-1"}})
	running(1)
	_, err = try(have, short, 0)
	wantError(t, err, sessions.ErrConflict)
	s.touch(t, sessions.Use{ID: have.ID, Over: []string{"op-2"}})
	running(0)
	time.Sleep(5 * time.Millisecond)
	_, err = try(have, short, 0)
	must(t, err)
}

// What one replica told to be released does not run, though another tells that it does.
func testReleased(t *testing.T, s *suite) {
	one, two := s.create(t, "ann", ""), s.create(t, "ann", "")
	running := func(id sessions.ID, want int) {
		t.Helper()
		if n, err := s.Running(t.Context(), id); n != want || err != nil {
			t.Errorf("%d operations of %s run (%v), want %d", n, id, err, want)
		}
	}
	s.touch(t, sessions.Use{ID: one.ID, Running: []string{"a", "b"}, Released: []string{"c"}}, sessions.Use{ID: two.ID, Running: []string{"a"}})
	running(one.ID, 2)
	s.touch(t, sessions.Use{ID: one.ID, Over: []string{"b"}, Released: []string{"a", "d"}})
	running(one.ID, 0)
	s.touchGone(t, map[sessions.ID][]string{one.ID: {"a", "c", "d"}}, // not b, which failed and may be begun again
		sessions.Use{ID: two.ID, Running: []string{"a"}}, sessions.Use{ID: one.ID, Running: []string{"a", "b", "c", "d"}}, sessions.Use{ID: "s-none", Running: []string{"a"}})
	running(one.ID, 1)
	running(two.ID, 1)
}

// What other replicas have open of a session counts for as long as they tell of it.
func testStreams(t *testing.T, s *suite) {
	have := s.create(t, "ann", "")
	tell := func(replica string, n int64) {
		t.Helper()
		s.touch(t, sessions.Use{ID: have.ID, Replica: replica, Streams: n})
	}
	others := func(replica string, want int64) {
		t.Helper()
		if n, err := s.Streams(t.Context(), have.ID, replica); n != want || err != nil {
			t.Errorf("%d streams on other replicas than %s (%v), want %d", n, replica, err, want)
		}
	}
	others("a", 0)
	tell("a", 2)
	tell("b", 40)
	tell("c", 1)
	others("a", 41)
	others("b", 3)
	tell("b", 0)
	tell("a", 5)
	others("c", 5)
	others("none", 6)
	if n, err := s.Streams(t.Context(), "s-none", "a"); n != 0 || err != nil {
		t.Errorf("a session that is not there has %d streams (%v)", n, err)
	}
}

// A new engine runs none of the operations of the old one.
func testNewEngineNoOperations(t *testing.T, s *suite) {
	have := s.create(t, "ann", "")
	start := func(engine string) {
		tr := s.transition(have, sessions.Active)
		tr.Engine = &sessions.Instance{ID: engine, StartedAt: s.now}
		var err error
		have, err = s.Transition(t.Context(), have.ID, tr)
		must(t, err)
		if have.Engine == nil || have.Engine.ID != engine {
			t.Errorf("it runs on %+v, want %s", have.Engine, engine)
		}
	}
	start("one")
	s.touch(t, sessions.Use{ID: have.ID, Running: []string{"op"}})
	have = s.step(t, have, sessions.Failed)
	start("two")
	time.Sleep(5 * time.Millisecond)
	tr := s.transition(have, sessions.Idle)
	tr.Unused = time.Millisecond
	after, err := s.Transition(t.Context(), have.ID, tr)
	must(t, err)
	if after.Engine == nil || after.Engine.ID != "two" {
		t.Errorf("an idle session ran on %+v", after.Engine)
	}
}

func testSchedule(t *testing.T, s *suite) {
	a, b, c := s.create(t, "ann", "").ID, s.create(t, "ann", "").ID, s.create(t, "ann", "").ID
	past := time.Unix(1000, 0) // before anything that another test schedules
	must(t, s.Schedule(t.Context(), a, past.Add(2*time.Second)))
	must(t, s.Schedule(t.Context(), b, past.Add(time.Second)))
	must(t, s.Schedule(t.Context(), c, past))
	must(t, s.Schedule(t.Context(), c, past.Add(time.Minute)))
	due, err := s.Scheduled(t.Context(), past.Add(3*time.Second), 10)
	must(t, err)
	if len(due) != 2 || due[0] != b || due[1] != a {
		t.Errorf("due: %v, want %v", due, []sessions.ID{b, a})
	}
	due, err = s.Scheduled(t.Context(), past.Add(time.Hour), 1)
	must(t, err)
	if len(due) != 1 {
		t.Errorf("%d due, want 1", len(due))
	}
	for _, id := range []sessions.ID{a, b, c} {
		must(t, s.Schedule(t.Context(), id, time.Time{}))
	}
	due, err = s.Scheduled(t.Context(), past.Add(time.Hour), 10)
	must(t, err)
	if len(due) != 0 {
		t.Errorf("due after all: %v", due)
	}
	// A look in the future is somebody else's, who has just woken the session.
	future := time.Now().Add(time.Hour)
	must(t, s.Schedule(t.Context(), a, future))
	must(t, s.Schedule(t.Context(), a, time.Time{}))
	due, err = s.Scheduled(t.Context(), future, 1<<20)
	must(t, err)
	if !slices.Contains(due, a) {
		t.Error("a look in the future was taken back")
	}
	must(t, s.Schedule(t.Context(), a, past))
	must(t, s.Schedule(t.Context(), a, time.Time{}))
}

// Stages are told without a new revision. A session that is active has none that
// failed, and one whose state changed has none at all.
func testStage(t *testing.T, s *suite) {
	have := s.create(t, "ann", "")
	must(t, s.SetStage(t.Context(), have.ID, "starting", "it was raining"))
	must(t, s.SetStage(t.Context(), "s-none", "starting", ""))
	found, err := s.Get(t.Context(), have.ID)
	must(t, err)
	want := have
	want.Stage, want.WakeFailure, want.StageAt = "starting", "it was raining", found[0].StageAt
	wantSession(t, found[0], want)
	now, err := s.Clock(t.Context())
	must(t, err)
	if began := now.Sub(want.StageAt); began < 0 || began > time.Minute {
		t.Errorf("the stage began at %s, and it is %s", want.StageAt, now)
	}
	must(t, s.SetStage(t.Context(), have.ID, "", "it was raining"))
	found, err = s.Get(t.Context(), have.ID)
	must(t, err)
	if !found[0].StageAt.IsZero() {
		t.Errorf("no stage, and it began at %s", found[0].StageAt)
	}
	must(t, s.SetStage(t.Context(), have.ID, "starting", "it was raining"))
	after := s.step(t, have, sessions.Active)
	if after.WakeFailure != "" || after.Stage != "" || !after.StageAt.IsZero() {
		t.Errorf("an active session failed to wake: %q, and is being woken: %q, since %s", after.WakeFailure, after.Stage, after.StageAt)
	}
	must(t, s.SetStage(t.Context(), have.ID, "starting", ""))
	if after = s.step(t, after, sessions.Idle); after.Stage != "" {
		t.Errorf("a session that became idle is being woken: %q", after.Stage)
	}
}
