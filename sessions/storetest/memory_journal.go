package storetest

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/sconce-dev/sconce/sessions"
)

// What the journals of a registry that the suite is given may hold.
const (
	MaxJournal  = 1 << 20
	MaxJournals = 3 << 20
	MaxEntries  = 16
	MaxBlobs    = 1 << 20
)

// lostBeyond is how many entries that only say what was lost a full journal takes, and
// lostBeyondAll each journal of a session that is full of them.
const (
	lostBeyond    = 256
	lostBeyondAll = 4
	lostSmall     = 4 << 10
)

// entryCost is what an entry takes beside its body, in bytes.
const entryCost = 512

// memoryJournal is what is kept of one session's journals.
type memoryJournal struct {
	last    map[sessions.SparkID]uint64
	entries map[sessions.SparkID][]memoryEntry
	blobs   map[string][]byte

	generation uint64
	carried    map[sessions.SparkID]sessions.Carried
	told       map[sessions.SparkID]bool
}

type memoryEntry struct {
	sessions.SealedEntry
	run    int  // how many entries without a slot were added before
	beyond bool // the session's journals were full
}

// spent is what the entries of all Spark sessions are together.
func (j *memoryJournal) spent() (n int) {
	for _, list := range j.entries {
		for _, e := range list {
			n += len(e.Body) + entryCost
		}
	}
	return n
}

// full says whether all journals are, for e, and have taken their share of what may go
// beyond.
func (j *memoryJournal) full(spark sessions.SparkID, e sessions.SealedEntry) (beyond, full bool) {
	if j.spent()+len(e.Body)+entryCost <= MaxJournals {
		return false, false
	}
	n := 0
	for _, have := range j.entries[spark] {
		if have.beyond {
			n++
		}
	}
	return true, n >= lostBeyondAll || len(e.Body) > lostSmall || !sessions.IsLostSlot(e.Slot)
}

// journal returns the session's, or why there is none. Under mu.
func (m *Memory) journal(id sessions.ID) (*memoryJournal, error) {
	if err := m.openToTokens(id); err != nil {
		return nil, err
	}
	j := m.journals[id]
	if j == nil {
		j = &memoryJournal{
			last: map[sessions.SparkID]uint64{}, entries: map[sessions.SparkID][]memoryEntry{}, blobs: map[string][]byte{},
		}
		m.journals[id] = j
	}
	return j, nil
}

// inJournal runs do on the journal of an open session.
func (m *Memory) inJournal(ctx context.Context, id sessions.ID, do func(*memoryJournal) error) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	j, err := m.journal(id)
	if err != nil {
		return err
	}
	return do(j)
}

// ofJournal runs do on a journal if there is one.
func (m *Memory) ofJournal(ctx context.Context, id sessions.ID, do func(*memoryJournal)) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if j := m.journals[id]; j != nil {
		do(j)
	}
	return nil
}

// NextEntry implements sessions.JournalStore.
func (m *Memory) NextEntry(ctx context.Context, id sessions.ID, spark sessions.SparkID) (seq uint64, err error) {
	err = m.inJournal(ctx, id, func(j *memoryJournal) error {
		j.last[spark]++
		seq = j.last[spark]
		return nil
	})
	return seq, err
}

// AddEntry implements sessions.JournalStore.
func (m *Memory) AddEntry(ctx context.Context, id sessions.ID, spark sessions.SparkID, e sessions.SealedEntry) error {
	return m.inJournal(ctx, id, func(j *memoryJournal) error {
		list, size, run := j.entries[spark], len(e.Body), 0
		for _, have := range list {
			size += len(have.Body)
			run = max(run, have.run)
		}
		beyond := 0
		if sessions.IsLostSlot(e.Slot) {
			beyond = lostBeyond
		}
		over, full := j.full(spark, e)
		if full || size > MaxJournal+beyond*1024 || len(list) >= MaxEntries+beyond {
			return sessions.ErrJournalFull
		}
		if e.Slot == "" {
			run++
		}
		e.Committed, e.Body = false, bytes.Clone(e.Body)
		list = append(list, memoryEntry{e, run, over})
		slices.SortFunc(list, func(a, b memoryEntry) int { return cmp.Compare(a.Seq, b.Seq) })
		j.entries[spark] = list
		return nil
	})
}

// SettleEntry implements sessions.JournalStore.
func (m *Memory) SettleEntry(ctx context.Context, id sessions.ID, spark sessions.SparkID, seq uint64, commit bool) error {
	return m.ofJournal(ctx, id, func(j *memoryJournal) {
		list := j.entries[spark]
		at := slices.IndexFunc(list, func(e memoryEntry) bool { return e.Seq == seq })
		if at < 0 {
			return
		}
		if !commit {
			j.entries[spark] = slices.Delete(list, at, at+1)
			return
		}
		list[at].Committed = true
		now := list[at]
		j.entries[spark] = slices.DeleteFunc(list, func(e memoryEntry) bool {
			return now.Slot != "" && e.Slot == now.Slot && e.Committed && e.run == now.run && e.Seq < seq
		})
	})
}

// Entries implements sessions.JournalStore.
func (m *Memory) Entries(ctx context.Context, id sessions.ID) (map[sessions.SparkID][]sessions.SealedEntry, error) {
	found := map[sessions.SparkID][]sessions.SealedEntry{}
	err := m.ofJournal(ctx, id, func(j *memoryJournal) {
		for spark, list := range j.entries {
			for _, e := range list {
				e.Body = nil
				found[spark] = append(found[spark], e.SealedEntry)
			}
		}
	})
	return found, err
}

// EntryBody implements sessions.JournalStore.
func (m *Memory) EntryBody(ctx context.Context, id sessions.ID, spark sessions.SparkID, seq uint64) ([]byte, error) {
	var body []byte
	err := m.ofJournal(ctx, id, func(j *memoryJournal) {
		for _, e := range j.entries[spark] {
			if e.Seq == seq {
				body = append([]byte{}, e.Body...)
			}
		}
	})
	if err == nil && body == nil {
		err = sessions.ErrNotFound
	}
	return body, err
}

// DropJournal implements sessions.JournalStore.
func (m *Memory) DropJournal(ctx context.Context, id sessions.ID, spark sessions.SparkID) error {
	return m.ofJournal(ctx, id, func(j *memoryJournal) { delete(j.entries, spark) })
}

// PutBlob implements sessions.JournalStore.
func (m *Memory) PutBlob(ctx context.Context, id sessions.ID, name string, body []byte) error {
	return m.inJournal(ctx, id, func(j *memoryJournal) error {
		if j.blobs[name] != nil {
			return nil
		}
		size := len(body)
		for _, b := range j.blobs {
			size += len(b)
		}
		if size > MaxBlobs {
			return sessions.ErrJournalFull
		}
		j.blobs[name] = append([]byte{}, body...)
		return nil
	})
}

// Blob implements sessions.JournalStore.
func (m *Memory) Blob(ctx context.Context, id sessions.ID, name string) ([]byte, error) {
	var body []byte
	err := m.ofJournal(ctx, id, func(j *memoryJournal) { body = bytes.Clone(j.blobs[name]) })
	if err == nil && body == nil {
		err = sessions.ErrNotFound
	}
	return body, err
}

// SetCarried implements sessions.CarriedStore.
func (m *Memory) SetCarried(ctx context.Context, id sessions.ID, generation uint64, carried map[sessions.SparkID]sessions.Carried) error {
	return m.inJournal(ctx, id, func(j *memoryJournal) error {
		j.generation, j.carried, j.told = generation, maps.Clone(carried), map[sessions.SparkID]bool{}
		return nil
	})
}

// Carried implements sessions.CarriedStore.
func (m *Memory) Carried(ctx context.Context, id sessions.ID, generation uint64) (map[sessions.SparkID]sessions.Carried, error) {
	found := map[sessions.SparkID]sessions.Carried{}
	err := m.ofJournal(ctx, id, func(j *memoryJournal) {
		if j.generation == generation {
			maps.Copy(found, j.carried)
		}
	})
	return found, err
}

// TakeLoss implements sessions.CarriedStore.
func (m *Memory) TakeLoss(ctx context.Context, id sessions.ID, spark sessions.SparkID, generation uint64) (first bool, err error) {
	err = m.ofJournal(ctx, id, func(j *memoryJournal) {
		_, known := j.carried[spark]
		if j.generation == generation && known && !j.told[spark] {
			j.told[spark], first = true, true
		}
	})
	return first, err
}
