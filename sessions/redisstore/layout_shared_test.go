package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// newestShared is what replicas of this version share besides sessions.
const newestShared = "testdata/shared-3.txt"

const (
	layoutChannel = "sconce:changes"
	layoutAudit   = "sconce:audit"
)

// tellShared writes the other story: drains, places, a turn, decisions, and all that
// is said on the channel.
func (w *teller) tellShared() {
	w.t.Helper()
	w.ok(w.Drain(w.ctx, "spark", sessions.Drain{At: layoutNow, Reason: "a new kernel"}))
	w.ok(w.Drain(w.ctx, "sail", sessions.Drain{At: layoutNow.Add(time.Second)}))
	for n := range 3 {
		w.place("ann", n, n > 0)
	}
	for n := range 2 {
		w.place("bob", n, true)
	}
	busy := w.create(11, "busy", "", nil)
	w.step(busy, sessions.Transition{From: sessions.Pending, To: sessions.Active})
	w.tokens(busy)
	w.step(busy, sessions.Transition{From: sessions.Active, Generation: 1, To: sessions.Idle, Reason: "unused"})
	w.step(busy, sessions.Transition{From: sessions.Idle, Generation: 1, To: sessions.Active})
	_, err := w.TakeTurn(w.ctx, busy, layoutSpark, "the other", time.Minute)
	w.ok(err)
	w.step(w.create(12, "", "", nil), sessions.CloseAt(layoutNow, "closed by ann"))
	w.ok(w.AppendAudit(w.ctx, layoutDecisions()))
}

// place is an engine that is being launched, or up.
func (w *teller) place(owner string, n int, up bool) {
	w.t.Helper()
	key, p := layoutPlace(owner, n)
	_, err := w.LeaseEngine(w.ctx, key, p.Lease, time.Minute)
	w.ok(err)
	w.ok(w.TakePlace(w.ctx, key, p))
	if !up {
		return
	}
	in := sessions.Instance{ID: "engine of " + p.Lease, Address: "127.0.0.1:15002", StartedAt: layoutNow}
	w.ok(w.PutEngine(w.ctx, sessions.EngineRecord{Key: key, Cluster: "spark", Instance: in, Place: p, Members: map[sessions.ID]uint64{layoutID(11): 1}}, p.Lease))
	w.ok(w.UnleaseEngine(w.ctx, key, p.Lease))
}

func layoutPlace(owner string, n int) (sessions.EngineKey, sessions.Place) {
	lease := fmt.Sprintf("%s-%d", owner, n)
	return sessions.EngineKey("session:" + lease), sessions.Place{Org: "acme", Owner: owner, Lease: lease}
}

// layoutDecisions have every field once.
func layoutDecisions() []sessions.AuditEntry {
	return []sessions.AuditEntry{
		{
			At: layoutNow, Actor: "ann", Org: "acme", Admin: true, Via: "key:k-1", Action: sessions.ActionClose, Session: layoutID(12), TokenIDs: "a b",
			KeyID: "k-2", Cluster: "spark", Source: "192.0.2.7:5000", Outcome: "failed", Reason: "why", RequestID: "r",
		},
		{At: layoutNow, Actor: "bob", Action: sessions.ActionCreate, Outcome: "done"},
	}
}

// layoutChanges are what the story says on the channel.
func layoutChanges() []sessions.Change {
	busy := func(state sessions.State, generation, revision uint64) sessions.Change {
		return sessions.Change{ID: layoutID(11), State: state, Generation: generation, Revision: revision}
	}
	return []sessions.Change{
		busy(sessions.Active, 1, 2), busy(sessions.Active, 1, 3), busy(sessions.Idle, 1, 4), busy(sessions.Active, 2, 5),
		{ID: layoutID(12), State: sessions.Closed, Revision: 2},
	}
}

// What replicas of an older version share with one of this is what it was for them: a
// drain goes on, a place counts, a turn is honoured, a decision is read like one of
// today, and what they say on the channel is understood.
func TestOldVersionsAreShared(t *testing.T) {
	t.Parallel()
	tellings := map[string]func(*teller, *redis.Client){"as told now": func(w *teller, _ *redis.Client) { w.tellShared() }}
	for _, file := range recorded(t, newestShared) {
		tellings[file] = func(_ *teller, raw *redis.Client) { load(t, raw, file) }
	}
	for name, tell := range tellings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, raw := tellerOn(t)
			heard := w.listen()
			tell(w, raw)
			w.drainsGoOn()
			w.placesCount()
			w.turnIsHonoured()
			w.decisionsAreRead(raw)
			if got := heard(); !slices.Equal(got, layoutChanges()) {
				t.Errorf("heard\n%+v\nwant\n%+v", got, layoutChanges())
			}
		})
	}
}

// listen begins to hear what is said; heard ends it, when all has come that was said before.
func (w *teller) listen() (heard func() []sessions.Change) {
	w.t.Helper()
	var mu sync.Mutex
	var all []sessions.Change
	ready, last, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	end := layoutID(20)
	ctx, cancel := context.WithCancel(w.ctx)
	go func() {
		defer close(done)
		_ = w.Watch(ctx, func() { close(ready) }, func(c sessions.Change) {
			mu.Lock()
			defer mu.Unlock()
			if c.ID == end {
				close(last)
				return
			}
			all = append(all, c)
		})
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	w.within(ready, "watch")
	return func() []sessions.Change {
		w.t.Helper()
		w.step(w.create(20, "", "", nil), sessions.CloseAt(layoutNow, ""))
		w.within(last, "hear the last change")
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

func (w *teller) within(came <-chan struct{}, what string) {
	w.t.Helper()
	select {
	case <-came:
	case <-time.After(15 * time.Second):
		w.t.Fatalf("%s: not within 15 s", what)
	}
}

func (w *teller) drainsGoOn() {
	w.t.Helper()
	w.ok(w.Drain(w.ctx, "spark", sessions.Drain{At: layoutNow.Add(time.Hour), Reason: "another"})) // it is draining
	w.ok(w.Resume(w.ctx, "sail"))
	got, err := w.Draining(w.ctx)
	if want := map[string]sessions.Drain{"spark": {At: layoutNow, Reason: "a new kernel"}}; err != nil || !maps.Equal(got, want) {
		w.t.Errorf("draining are %v, %v, want %v", got, err, want)
	}
}

// placesCount takes what is left of the limits, which is nothing, until an engine ends.
func (w *teller) placesCount() {
	w.t.Helper()
	full := func(owner, want string) {
		w.t.Helper()
		key, p := layoutPlace(owner, 9)
		var limit *sessions.LimitError
		if err := w.TakePlace(w.ctx, key, p); !errors.As(err, &limit) || limit.Limit != want {
			w.t.Errorf("one more place of %s: %v, want that %s is reached", owner, err, want)
		}
	}
	full("ann", sessions.LimitEnginesPerOwner)
	full("zoe", sessions.LimitEnginesPerOrg)
	up, err := w.Engines(w.ctx)
	if err != nil || len(up) != storetest.MaxOrgEngines-1 {
		w.t.Errorf("up are %+v, %v", up, err)
	}
	for _, e := range up {
		if e.Place.Lease == "" || e.Place.Org != "acme" || e.ID != "engine of "+e.Place.Lease {
			w.t.Errorf("engine %+v", e)
		}
	}
	key, _ := layoutPlace("ann", 1)
	if in, err := w.LeaveEngine(w.ctx, key, layoutID(11), 1); err != nil || in == nil || in.ID != "engine of ann-1" {
		w.t.Errorf("the last of an engine leaves: %+v, %v", in, err)
	}
	w.place("ann", 8, false)
	full("bob", sessions.LimitEnginesPerOrg)
}

func (w *teller) turnIsHonoured() {
	w.t.Helper()
	take := func(holder string, want sessions.Turn) {
		w.t.Helper()
		if got, err := w.TakeTurn(w.ctx, layoutID(11), layoutSpark, holder, time.Minute); err != nil || got != want {
			w.t.Errorf("%s hears %q, %v, want %q", holder, got, err, want)
		}
	}
	take("me", sessions.TurnTaken)
	w.ok(w.GiveTurn(w.ctx, layoutID(11), layoutSpark, "me")) // it was not mine
	take("me", sessions.TurnTaken)
	if _, err := w.TakeTurn(w.ctx, layoutID(12), layoutSpark, "me", time.Minute); !errors.Is(err, sessions.ErrForeignSpark) {
		w.t.Errorf("a Spark session that another prepares: %v", err)
	}
	w.ok(w.GiveTurn(w.ctx, layoutID(11), layoutSpark, "the other"))
	take("me", sessions.TurnMine)
}

// decisionsAreRead adds the same decisions: they are the same to whoever reads.
func (w *teller) decisionsAreRead(raw *redis.Client) {
	w.t.Helper()
	w.ok(w.AppendAudit(w.ctx, layoutDecisions()))
	got, err := raw.XRange(w.ctx, layoutAudit, "-", "+").Result()
	if err != nil || len(got) != 4 {
		w.t.Fatalf("decisions: %v, %v", got, err)
	}
	for i := range 2 {
		if then, now := sorted(got[i].Values), sorted(got[i+2].Values); then != now {
			w.t.Errorf("a decision was\n%s\nand is\n%s", then, now)
		}
	}
}
