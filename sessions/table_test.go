package sessions

import (
	"fmt"
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
