package sessions_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// toldStore notes what is settled and dropped, by session.
type toldStore struct {
	*storetest.Memory
	told []sessions.ID
	down int // how many of these are refused first
}

func (s *toldStore) tell(id sessions.ID) error {
	if s.told = append(s.told, id); len(s.told) <= s.down {
		return sessions.ErrUnavailable
	}
	return nil
}

func (s *toldStore) SettleEntry(ctx context.Context, id sessions.ID, spark sessions.SparkID, seq uint64, commit bool) error {
	if err := s.tell(id); err != nil {
		return err
	}
	return s.Memory.SettleEntry(ctx, id, spark, seq, commit)
}

func (s *toldStore) DropJournal(ctx context.Context, id sessions.ID, spark sessions.SparkID) error {
	if err := s.tell(id); err != nil {
		return err
	}
	return s.Memory.DropJournal(ctx, id, spark)
}

// flooded is a journal with one act begun, and another session with that much to forget.
func flooded(t *testing.T, flood int) (r *journalRig, store *toldStore, begun sessions.Ticket, other sessions.ID) {
	t.Helper()
	r = newJournalRig(t)
	store = &toldStore{Memory: r.store}
	r.Store = store
	begun = r.begin(t, &sessions.Entry{Method: "ExecutePlan", What: "x", Message: []byte("m")}, "")
	other = newID(t)
	for range flood {
		r.Forget(other, sessions.SparkID(uuid.NewString()))
	}
	return r, store, begun, other
}

// What one session has to be settled takes the place of no other's, and none waits for all
// of it.
func TestJournalFloodOfOneSession(t *testing.T) {
	r, store, begun, _ := flooded(t, 20_000)
	r.Settle(begun, false)
	r.settled()
	if left := r.entries(t); len(left) != 0 {
		t.Errorf("an act that was refused is kept: %v", left)
	}
	if at := slices.Index(store.told, r.session.ID); at < 0 || at > 1 {
		t.Errorf("it was number %d of %d", at, len(store.told))
	}
	if n := len(store.told); n > 2_000 {
		t.Errorf("one session has %d that wait", n)
	}
}

// What the registry does not take of one session goes behind the others, in its order.
func TestJournalQueuePutsBack(t *testing.T) {
	r, store, begun, other := flooded(t, 2)
	r.Settle(begun, true)
	store.down = 1
	r.settled()
	r.settled()
	if want := []sessions.ID{other, r.session.ID, other, other}; !slices.Equal(store.told, want) {
		t.Errorf("told %v, want %v", store.told, want)
	}
}

// A journal that waits to be dropped waits once.
func TestJournalForgetsOnce(t *testing.T) {
	r, store, begun, _ := flooded(t, 0)
	for range 5_000 {
		r.Forget(r.session.ID, r.spark)
	}
	r.Settle(begun, true) // behind it: there is nothing left
	r.settled()
	if len(store.told) != 2 || len(r.entries(t)) != 0 {
		t.Errorf("told %d times, left %v", len(store.told), r.entries(t))
	}
	again := r.begin(t, &sessions.Entry{Method: "ExecutePlan", What: "y", Message: []byte("m")}, "commit")
	r.Forget(r.session.ID, r.spark)
	r.Settle(again, true)
	r.settled()
	if left := r.entries(t); len(left) != 0 {
		t.Errorf("released once more, and kept: %v", left)
	}
}
