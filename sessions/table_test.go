package sessions

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The table against a map, with ids that often share a bucket.
func TestTableAgainstMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		table, model := newTable(), map[ID]*entry{}
		ids := make([]ID, 40)
		for i := range ids {
			ids[i] = ID(fmt.Sprint("s", i))
		}
		for range rapid.IntRange(0, 200).Draw(rt, "steps") {
			id := rapid.SampledFrom(ids).Draw(rt, "id")
			if model[id] != nil {
				table.remove(id)
				delete(model, id)
			} else {
				model[id] = &entry{id: id}
				table.put(model[id])
			}
			for _, id := range ids {
				if table.get(id) != model[id] {
					rt.Fatalf("get %s differs", id)
				}
			}
		}
	})
}

// One bucket that holds many: what is removed goes, what is not stays.
func TestTableChain(t *testing.T) {
	var chain *node
	for i := range 5 {
		chain = &node{entry: &entry{id: ID(fmt.Sprint(i))}, next: chain}
	}
	for i := range 5 {
		var got string
		for n := without(chain, ID(fmt.Sprint(i))); n != nil; n = n.next {
			got += string(n.entry.id)
		}
		want := map[int]string{0: "4321", 1: "4320", 2: "4310", 3: "4210", 4: "3210"}[i]
		if got != want {
			t.Errorf("without %d: %s, want %s", i, got, want)
		}
	}
}

// Readers stand on the chains while they change; run with -race.
func TestTableReadersAndWriter(t *testing.T) {
	table := newTable()
	stay := &entry{id: "stay"}
	table.put(stay)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if table.get("stay") != stay {
					t.Error("an entry that stays was not found")
					return
				}
			}
		})
	}
	for i := range 20_000 {
		id := ID(fmt.Sprint(i % 100))
		table.put(&entry{id: id})
		table.remove(id)
	}
	close(stop)
	wg.Wait()
}

// What a slow read brings is not newer than what a push said meanwhile.
func TestOlderRecordReplacesNothing(t *testing.T) {
	var ends int
	r, err := NewResolver(ResolverConfig{Directory: noDirectory{}, OnEnd: func(ID, error) { ends++ }})
	if err != nil {
		t.Fatal(err)
	}
	s := Session{ID: "s", State: Pending, Revision: 1}
	r.apply(s, nil, nil, 0, true)
	r.changed(Change{ID: "s", State: Closed, Revision: 3})
	s.State, s.Revision = Active, 2
	if got := r.apply(s, nil, nil, time.Second, true); got.session.State != Closed || ends != 1 {
		t.Errorf("state %s, %d ends", got.session.State, ends)
	}
	r.changed(Change{ID: "s", State: Closed, Revision: 3})
	if ends != 1 {
		t.Errorf("one end was told %d times", ends)
	}
}

// A failover loses the last writes. What was read after the cache knew them is what
// the registry has now; a closed session stays closed, and a revoked token revoked.
func TestRegistryComesBackOlder(t *testing.T) {
	engine := func(id string) *Instance { return &Instance{ID: id} }
	known := Session{ID: "s", Cluster: "c", State: Active, Revision: 5, Generation: 2, Engine: engine("1"), Revoked: "a b"}
	for _, c := range []struct {
		name   string
		known  func(*Session)
		found  func(*Session)
		early  bool // the read began before the cache knew
		undone bool
	}{
		{"the same", nil, func(*Session) {}, false, false},
		{"older", nil, func(s *Session) { s.State, s.Revision, s.Generation = Idle, 4, 1 }, false, true},
		{"older, read before", nil, func(s *Session) { s.State, s.Revision, s.Generation = Idle, 4, 1 }, true, false},
		{"older than a close", func(s *Session) { s.State = Closed }, func(s *Session) { s.Revision = 4 }, false, false},
		{"another state", nil, func(s *Session) { s.State = Failed }, false, true},
		{"another state, read before", nil, func(s *Session) { s.State = Failed }, true, false},
		{"another generation", nil, func(s *Session) { s.Generation = 3 }, false, true},
		{"another engine", nil, func(s *Session) { s.Engine = engine("2") }, false, true},
		{"no engine", nil, func(s *Session) { s.Engine = nil }, false, true},
		{"another token revoked", nil, func(s *Session) { s.Revoked = "b c" }, false, true},
		{"fewer tokens revoked", nil, func(s *Session) { s.Revoked = "b" }, false, false},
		{"another beside a close", func(s *Session) { s.State = Closed }, func(s *Session) { s.Engine = nil }, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Unix(0, 0)
			r, err := NewResolver(ResolverConfig{Directory: noDirectory{}, Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			was, found := known, known
			if c.known != nil {
				c.known(&was)
			}
			now = now.Add(time.Minute)
			old := r.apply(was, nil, nil, r.elapsed(), true)
			asked := r.elapsed() + time.Second
			if c.early {
				asked = r.elapsed() - time.Second
			}
			now = now.Add(2 * time.Second)
			c.found(&found)
			got := r.apply(found, nil, nil, asked, false)
			if (got != old) != c.undone {
				t.Fatalf("it stands as %+v", got.session)
			}
			if !c.undone {
				return
			}
			for _, token := range strings.Fields(was.Revoked + " " + found.Revoked) {
				if !IsRevoked(got.session.Revoked, token) {
					t.Errorf("token %s is no longer revoked", token)
				}
			}
			if again := r.apply(found, nil, nil, r.elapsed(), false); again != got {
				t.Error("what the registry has now is news each time")
			}
		})
	}
}

func TestMissingAreBounded(t *testing.T) {
	r, err := NewResolver(ResolverConfig{Directory: noDirectory{}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * maxMissing {
		r.rememberMissing(ID(fmt.Sprint(i)))
	}
	if len(r.missing) != maxMissing {
		t.Errorf("%d missing sessions are remembered", len(r.missing))
	}
}

type noDirectory struct{ Directory }
