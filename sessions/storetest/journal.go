package storetest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/sconce-dev/sconce/sessions"
)

// add adds an entry and settles it; how is "commit", "abort" or "" for neither.
func (s *suite) add(t failer, id sessions.ID, spark sessions.SparkID, slot, body, how string) uint64 {
	t.Helper()
	seq, err := s.NextEntry(context.Background(), id, spark)
	must(t, err)
	must(t, s.AddEntry(context.Background(), id, spark, sessions.SealedEntry{Seq: seq, Slot: slot, Body: []byte(body)}))
	if how != "" {
		must(t, s.SettleEntry(context.Background(), id, spark, seq, how == "commit"))
	}
	return seq
}

// wantJournal compares a journal as text: "a+ b" is a, committed, and then b.
func (s *suite) wantJournal(t failer, id sessions.ID, spark sessions.SparkID, want string) {
	t.Helper()
	all, err := s.Entries(context.Background(), id)
	must(t, err)
	got := ""
	for i, e := range all[spark] {
		body, err := s.EntryBody(context.Background(), id, spark, e.Seq)
		must(t, err)
		if i > 0 {
			got += " "
		}
		got += string(body)
		if e.Committed {
			got += "+"
		}
	}
	if got != want {
		t.Errorf("journal %q, want %q", got, want)
	}
}

func testJournalOrder(t *testing.T, s *suite) {
	mine, spark, other := s.active(t, "ann", "a"), newSpark(), newSpark()
	s.wantJournal(t, mine.ID, spark, "")
	s.add(t, mine.ID, spark, "", "a", "commit")
	s.add(t, mine.ID, spark, "", "b", "abort")
	begun := s.add(t, mine.ID, spark, "", "c", "")
	s.add(t, mine.ID, other, "", "x", "commit")
	s.add(t, mine.ID, spark, "", "d", "commit")
	s.wantJournal(t, mine.ID, spark, "a+ c d+")
	must(t, s.SettleEntry(t.Context(), mine.ID, spark, begun, true))
	s.wantJournal(t, mine.ID, spark, "a+ c+ d+")
	must(t, s.SettleEntry(t.Context(), mine.ID, spark, 99, true))
	must(t, s.SettleEntry(t.Context(), mine.ID, spark, 99, false))
	s.wantJournal(t, mine.ID, other, "x+")
	must(t, s.DropJournal(t.Context(), mine.ID, spark))
	s.wantJournal(t, mine.ID, spark, "")
	s.wantJournal(t, mine.ID, other, "x+")
	_, err := s.EntryBody(t.Context(), mine.ID, spark, begun)
	wantError(t, err, sessions.ErrNotFound)
	if last := s.add(t, mine.ID, spark, "", "e", ""); last != 5 {
		t.Errorf("number %d after a drop, want 5: none is given out twice", last)
	}
	// Larger than what a store may write at once.
	big := string(bytes.Repeat([]byte("0123456789abcdef"), 50<<10))
	s.add(t, mine.ID, spark, "", big, "commit")
	s.wantJournal(t, mine.ID, spark, "e "+big+"+")
}

// A configuration that is set again replaces what was set before, but not across
// an act that may have been done under it, and only once the engine took it.
func testJournalSlots(t *testing.T, s *suite) {
	mine, spark := s.active(t, "ann", "a"), newSpark()
	s.add(t, mine.ID, spark, "k", "k1", "commit")
	s.add(t, mine.ID, spark, "j", "j1", "commit")
	s.add(t, mine.ID, spark, "k", "k2", "commit")
	s.wantJournal(t, mine.ID, spark, "j1+ k2+")
	s.add(t, mine.ID, spark, "k", "bad", "abort")
	s.wantJournal(t, mine.ID, spark, "j1+ k2+")
	begun := s.add(t, mine.ID, spark, "k", "k3", "")
	s.wantJournal(t, mine.ID, spark, "j1+ k2+ k3")
	s.add(t, mine.ID, spark, "k", "k4", "commit")
	s.wantJournal(t, mine.ID, spark, "j1+ k3 k4+")
	must(t, s.SettleEntry(t.Context(), mine.ID, spark, begun, false))
	s.add(t, mine.ID, spark, "", "view", "commit")
	s.add(t, mine.ID, spark, "k", "k5", "commit")
	s.wantJournal(t, mine.ID, spark, "j1+ k4+ view+ k5+")
	s.add(t, mine.ID, spark, "k", "k6", "commit")
	s.wantJournal(t, mine.ID, spark, "j1+ k4+ view+ k6+")
}

func testJournalCaps(t *testing.T, s *suite) {
	mine, spark := s.active(t, "ann", "a"), newSpark()
	try := func(slot string, size int) error {
		seq, err := s.NextEntry(t.Context(), mine.ID, spark)
		must(t, err)
		return s.AddEntry(t.Context(), mine.ID, spark, sessions.SealedEntry{Seq: seq, Slot: slot, Body: make([]byte, size)})
	}
	wantError(t, try("", MaxJournal+1), sessions.ErrJournalFull)
	must(t, try("", MaxJournal-10))
	wantError(t, try("", 11), sessions.ErrJournalFull)
	must(t, try("lost-one", 100))
	must(t, s.SettleEntry(t.Context(), mine.ID, spark, 2, false))
	for range MaxEntries - 1 {
		must(t, try("", 1))
	}
	wantError(t, try("", 1), sessions.ErrJournalFull)
	must(t, try("lost-two", 1))
	spark = newSpark()
	must(t, try("", MaxJournal)) // each has a cap of its own
}

// All journals of a session have a cap together. Beyond it each takes a few words of what
// was lost, and who takes something back has room again.
func testJournalsOfASession(t *testing.T, s *suite) {
	mine, other := s.active(t, "ann", "a"), s.active(t, "ann", "b")
	try := func(id sessions.ID, spark sessions.SparkID, slot string, size int) (uint64, error) {
		seq, err := s.NextEntry(t.Context(), id, spark)
		must(t, err)
		return seq, s.AddEntry(t.Context(), id, spark, sessions.SealedEntry{Seq: seq, Slot: slot, Body: make([]byte, size)})
	}
	const most = MaxJournal - 1<<10 // of which a session may have three
	first, second, third, fourth := newSpark(), newSpark(), newSpark(), newSpark()
	for _, spark := range []sessions.SparkID{first, second, third} {
		_, err := try(mine.ID, spark, "", most)
		must(t, err)
	}
	full := func(spark sessions.SparkID) {
		t.Helper()
		_, err := try(mine.ID, spark, "", 2<<10)
		wantError(t, err, sessions.ErrJournalFull)
		_, err = try(mine.ID, spark, "", most)
		wantError(t, err, sessions.ErrJournalFull)
	}
	full(fourth)
	_, err := try(other.ID, fourth, "", most)
	must(t, err)
	for n := range lostBeyondAll {
		_, err = try(mine.ID, first, fmt.Sprint("lost-", n), 2<<10)
		must(t, err)
	}
	_, err = try(mine.ID, first, "lost-more", 2<<10)
	wantError(t, err, sessions.ErrJournalFull)
	_, err = try(mine.ID, fourth, "lost-long", lostSmall+1)
	wantError(t, err, sessions.ErrJournalFull)
	told, err := try(mine.ID, fourth, "lost-one", 2<<10) // each has its own
	must(t, err)
	must(t, s.SettleEntry(t.Context(), mine.ID, fourth, told, false))
	must(t, s.DropJournal(t.Context(), mine.ID, first))
	for range 3 { // what is replaced, taken back or dropped counts no more
		seq, err := try(mine.ID, first, "k", most/2)
		must(t, err)
		must(t, s.SettleEntry(t.Context(), mine.ID, first, seq, true))
	}
	seq, err := try(mine.ID, fourth, "", most/2-1<<10)
	must(t, err)
	full(fourth)
	must(t, s.SettleEntry(t.Context(), mine.ID, fourth, seq, false))
	_, err = try(mine.ID, fourth, "", most/2-1<<10)
	must(t, err)
	full(fourth)
}

func testJournalEndsWithClose(t *testing.T, s *suite) {
	mine, spark := s.active(t, "ann", "a"), newSpark()
	seq := s.add(t, mine.ID, spark, "", "a", "commit")
	must(t, s.PutBlob(t.Context(), mine.ID, "b", []byte("blob")))
	must(t, s.SetCarried(t.Context(), mine.ID, 2, map[sessions.SparkID]sessions.Carried{spark: {ServerID: "x"}}))
	s.step(t, mine, sessions.Closed)
	s.wantJournal(t, mine.ID, spark, "")
	_, err := s.EntryBody(t.Context(), mine.ID, spark, seq)
	wantError(t, err, sessions.ErrNotFound)
	_, err = s.Blob(t.Context(), mine.ID, "b")
	wantError(t, err, sessions.ErrNotFound)
	got, err := s.Carried(t.Context(), mine.ID, 2)
	must(t, err)
	if len(got) != 0 {
		t.Errorf("a closed session carried %v", got)
	}
	// Nothing may be kept any more: nobody would ever remove it.
	_, err = s.NextEntry(t.Context(), mine.ID, spark)
	wantError(t, err, sessions.ErrClosed)
	wantError(t, s.AddEntry(t.Context(), mine.ID, spark, sessions.SealedEntry{Seq: 9, Body: []byte("late")}), sessions.ErrClosed)
	wantError(t, s.PutBlob(t.Context(), mine.ID, "c", []byte("late")), sessions.ErrClosed)
	wantError(t, s.SetCarried(t.Context(), mine.ID, 3, nil), sessions.ErrClosed)
	must(t, s.SettleEntry(t.Context(), mine.ID, spark, seq, true))
	must(t, s.DropJournal(t.Context(), mine.ID, spark))
	s.wantJournal(t, mine.ID, spark, "")

	none := s.session(t, "ann", "none").ID
	for _, id := range []sessions.ID{none, "no id"} {
		_, err = s.NextEntry(t.Context(), id, spark)
		wantError(t, err, sessions.ErrNotFound)
		wantError(t, s.AddEntry(t.Context(), id, spark, sessions.SealedEntry{Seq: 1}), sessions.ErrNotFound)
		wantError(t, s.PutBlob(t.Context(), id, "b", []byte("x")), sessions.ErrNotFound)
		wantError(t, s.SetCarried(t.Context(), id, 1, nil), sessions.ErrNotFound)
	}
}

func testJournalRace(t *testing.T, s *suite) {
	mine, spark := s.active(t, "ann", "a"), newSpark()
	replicas := []Registry{s.Registry, s.open(t)}
	var wg sync.WaitGroup
	for i := range MaxEntries {
		wg.Go(func() {
			own := suite{Registry: replicas[i%len(replicas)]}
			own.add(t, mine.ID, spark, "", fmt.Sprint(i), "commit")
		})
	}
	wg.Wait()
	all, err := s.Entries(t.Context(), mine.ID)
	must(t, err)
	seen := map[uint64]bool{}
	for _, e := range all[spark] {
		seen[e.Seq] = true
	}
	if len(seen) != MaxEntries {
		t.Errorf("%d entries of %d", len(seen), MaxEntries)
	}
}

func testBlobs(t *testing.T, s *suite) {
	mine, other := s.active(t, "ann", "a"), s.active(t, "ann", "b")
	big := bytes.Repeat([]byte("0123456789"), 60<<10)
	must(t, s.PutBlob(t.Context(), mine.ID, "big", big))
	must(t, s.PutBlob(t.Context(), mine.ID, "big", big))
	must(t, s.PutBlob(t.Context(), mine.ID, "small", []byte("x")))
	for name, want := range map[string][]byte{"big": big, "small": []byte("x")} {
		got, err := s.Blob(t.Context(), mine.ID, name)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("blob %s differs", name)
		}
	}
	wantError(t, s.PutBlob(t.Context(), mine.ID, "more", big), sessions.ErrJournalFull)
	_, err := s.Blob(t.Context(), other.ID, "big")
	wantError(t, err, sessions.ErrNotFound)
	must(t, s.PutBlob(t.Context(), other.ID, "more", big))
}

func testCarried(t *testing.T, s *suite) {
	mine, spark, other := s.active(t, "ann", "a"), newSpark(), newSpark()
	want := sessions.Carried{ServerID: "x", Replayed: 3, Notable: true, Lost: []byte("sealed\x00")}
	must(t, s.SetCarried(t.Context(), mine.ID, 2, map[sessions.SparkID]sessions.Carried{spark: want, other: {}}))
	got, err := s.Carried(t.Context(), mine.ID, 2)
	must(t, err)
	if len(got) != 2 || fmt.Sprint(got[spark]) != fmt.Sprint(want) {
		t.Errorf("carried %v, want %v", got, want)
	}
	for _, other := range []uint64{1, 3} {
		got, err := s.Carried(t.Context(), mine.ID, other)
		must(t, err)
		if len(got) != 0 {
			t.Errorf("generation %d carried %v", other, got)
		}
	}
	for i, step := range []struct {
		spark      sessions.SparkID
		generation uint64
		first      bool
	}{{spark, 1, false}, {spark, 2, true}, {spark, 2, false}, {other, 2, true}, {newSpark(), 2, false}, {spark, 3, false}} {
		first, err := s.TakeLoss(t.Context(), mine.ID, step.spark, step.generation)
		must(t, err)
		if first != step.first {
			t.Errorf("step %d: first %v", i, first)
		}
	}
	must(t, s.SetCarried(t.Context(), mine.ID, 3, map[sessions.SparkID]sessions.Carried{spark: want}))
	first, err := s.TakeLoss(t.Context(), mine.ID, spark, 3)
	must(t, err)
	if !first {
		t.Error("what the next generation lost is not told")
	}
	if got, err = s.Carried(t.Context(), mine.ID, 3); err != nil || len(got) != 1 {
		t.Errorf("carried %v, %v", got, err)
	}
}
