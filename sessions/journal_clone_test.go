package sessions_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

func TestJournalClone(t *testing.T) {
	r := newJournalRig(t)
	r.begin(t, &sessions.Entry{Method: "Config", What: "one", Message: configSet("k", "1")}, "commit")
	r.begin(t, &sessions.Entry{Method: "AddArtifacts", Artifacts: []sessions.Artifact{{Name: "files/a", Data: []byte("content")}}}, "")
	from, to := r.spark, sessions.SparkID(uuid.NewString())
	ticket, err := r.Clone(t.Context(), r.session.ID, from, to)
	if err != nil {
		t.Fatal(err)
	}
	r.Settle(ticket, true)
	r.settled()
	r.spark = to
	got := r.entries(t)
	if len(got) != 3 || !got[0].Committed || got[1].Committed || !got[2].Committed {
		t.Fatalf("the clone has %v", got)
	}
	_ = r.store.Bind(t.Context(), r.session.ID, to)
	if done := replayOn(t, r, newFakeSpark(t)); done[to].Entries != 2 || done[from].Entries != 2 {
		t.Errorf("replayed %+v and %+v", done[to], done[from])
	}
	// One that is there already is not touched, also when the engine refuses.
	again, err := r.Clone(t.Context(), r.session.ID, from, to)
	if err != nil {
		t.Fatal(err)
	}
	r.Settle(again, false)
	r.settled()
	if len(r.entries(t)) != 3 {
		t.Error("a refused clone took the journal of an earlier one away")
	}
	r.Settle(ticket, false)
	r.settled()
	if len(r.entries(t)) != 0 {
		t.Error("the journal of a clone that was refused is still there")
	}
}

// A clone that does not fit beside what the session has is made all the same, and its
// client is told after a wake what it lacks.
func TestJournalCloneOverTheCap(t *testing.T) {
	r := newJournalRig(t)
	r.begin(t, &sessions.Entry{Method: "ExecutePlan", What: "temporary view `x`", Message: make([]byte, storetest.MaxJournals*2/7)}, "commit")
	r.begin(t, &sessions.Entry{Method: "Config", What: "one", Message: configSet("k", "1")}, "commit")
	var clones []sessions.SparkID
	for range 4 {
		to := sessions.SparkID(uuid.NewString())
		ticket, err := r.Clone(t.Context(), r.session.ID, r.spark, to)
		if err != nil {
			t.Fatal(err)
		}
		r.Settle(ticket, true)
		clones = append(clones, to)
	}
	r.settled()
	all, err := r.store.Entries(t.Context(), r.session.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{3, 3, 1, 1} { // three and a half fit
		if got := all[clones[i]]; len(got) != want || !got[len(got)-1].Committed {
			t.Errorf("clone %d has %v, want %d", i, got, want)
		}
	}
	if err := r.store.Bind(t.Context(), r.session.ID, clones[2]); err != nil {
		t.Fatal(err)
	}
	lost := replayOn(t, r, newFakeSpark(t))[clones[2]].Lost
	if len(lost) != 1 || !lost[0].Notable || lost[0].What != "what cloneSession gave it" || !strings.Contains(lost[0].Why, "cap") {
		t.Errorf("lost %+v", lost)
	}
}

// flakyStore fails while it adds an entry, once so many were added, and does what comes
// while an entry is read.
type flakyStore struct {
	*storetest.Memory
	adds    atomic.Int64 // that are left; below zero it fails
	reading func()
}

func (s *flakyStore) AddEntry(ctx context.Context, id sessions.ID, spark sessions.SparkID, e sessions.SealedEntry) error {
	if err := s.Memory.AddEntry(ctx, id, spark, e); err != nil || s.adds.Add(-1) >= 0 {
		return err
	}
	s.Fail(sessions.ErrUnavailable)
	return sessions.ErrUnavailable
}

func (s *flakyStore) EntryBody(ctx context.Context, id sessions.ID, spark sessions.SparkID, seq uint64) ([]byte, error) {
	if s.reading != nil {
		s.reading()
	}
	return s.Memory.EntryBody(ctx, id, spark, seq)
}

func newFlaky(t *testing.T) (*journalRig, *flakyStore) {
	t.Helper()
	r := newJournalRig(t)
	store := &flakyStore{Memory: r.store}
	store.adds.Store(1000)
	r.Store = store
	for range 3 {
		r.begin(t, &sessions.Entry{Method: "ExecutePlan", What: "x", Message: []byte("m")}, "commit")
	}
	return r, store
}

// A clone that could not be copied whole leaves nothing, and until that is done there is
// no other of its name.
func TestJournalCloneCutShort(t *testing.T) {
	r, store := newFlaky(t)
	store.adds.Store(2)
	to := sessions.SparkID(uuid.NewString())
	if _, err := r.Clone(t.Context(), r.session.ID, r.spark, to); !errors.Is(err, sessions.ErrUnavailable) {
		t.Fatal(err)
	}
	store.Fail(nil)
	store.adds.Store(1000)
	if _, err := r.Clone(t.Context(), r.session.ID, r.spark, to); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("again, with a part of it there: %v", err)
	}
	r.settled()
	all, err := r.store.Entries(t.Context(), r.session.ID)
	if err != nil || len(all[to]) != 0 || len(all[r.spark]) != 3 {
		t.Errorf("left is %v, %v", all, err)
	}
	if _, err := r.Clone(t.Context(), r.session.ID, r.spark, to); err != nil {
		t.Error(err)
	}
	if all, _ = r.store.Entries(t.Context(), r.session.ID); len(all[to]) != 4 {
		t.Errorf("in the end the clone has %v", all[to])
	}
}

// Of one session one clone is copied at a time: each holds a whole entry in memory.
func TestJournalClonesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, store := newFlaky(t)
		var now, most atomic.Int64
		store.reading = func() {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Second)
			now.Add(-1)
		}
		late, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var clones sync.WaitGroup
		var refused atomic.Int64
		for i := range 8 {
			ctx := t.Context()
			if i >= 4 {
				ctx = late
			}
			clones.Go(func() {
				if _, err := r.Clone(ctx, r.session.ID, r.spark, sessions.SparkID(uuid.NewString())); errors.Is(err, sessions.ErrUnavailable) {
					refused.Add(1)
				} else if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		clones.Wait()
		if most.Load() != 1 || refused.Load() < 3 {
			t.Errorf("%d were copied at once; %d waited in vain", most.Load(), refused.Load())
		}
	})
}
