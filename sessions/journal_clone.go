package sessions

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
)

// cloneSlot begins the slot of entries that say: as far as this, the Spark session is a
// clone. None replaces another.
const cloneSlot = "clone-"

// isClone says whether an entry is one of these.
func (e SealedEntry) isClone() bool { return strings.HasPrefix(e.Slot, cloneSlot) }

// cloneMethod is the Method of these entries.
const cloneMethod = "CloneSession"

// cloned is such an entry. To a replica of before there were any it is the drop of a
// view that was never made, which it passes over.
func cloned() *Entry {
	return &Entry{Method: cloneMethod, What: "what cloneSession gave it", Drops: "no view\x00"}
}

// Clone gives a Spark session that is about to be cloned from another one what
// that one has, and notes that it is a clone as far as that. Where there is no room for
// all of it, none is kept, and what is lost is noted. A journal that the new one has
// already stays as it is: then the engine will refuse.
func (j *Journal) Clone(ctx context.Context, id ID, from, to SparkID) (Ticket, error) {
	leave, err := j.clones.enter(ctx, id)
	if err != nil {
		return Ticket{}, err
	}
	defer leave()
	t := Ticket{session: id, spark: to}
	if j.queue.holds(t) {
		return Ticket{}, fmt.Errorf("%w: clone journal: what is left of an earlier one is not gone yet", ErrUnavailable)
	}
	all, err := j.Store.Entries(ctx, id)
	if err != nil {
		return Ticket{}, fmt.Errorf("clone journal: %w", err)
	}
	if len(all[to]) > 0 || from == to {
		return Ticket{}, nil
	}
	err = j.copyAll(ctx, id, from, to, all[from])
	if errors.Is(err, ErrJournalFull) {
		err = j.cloneLost(ctx, t)
	}
	if err != nil {
		if j.drop(ctx, t) != nil {
			j.Settle(t, false) // it waits for the registry; ctx may be over
		}
		return Ticket{}, fmt.Errorf("clone journal: %w", err)
	}
	return t, nil
}

// copyAll fails with ErrJournalFull where there is no room.
func (j *Journal) copyAll(ctx context.Context, id ID, from, to SparkID, entries []SealedEntry) error {
	for _, sealed := range entries {
		e, err := j.read(ctx, id, from, sealed.Seq)
		if err != nil {
			return err
		}
		if err := j.put(ctx, id, to, e, sealed.Committed); err != nil {
			return err
		}
	}
	return j.put(ctx, id, to, cloned(), true)
}

// cloneLost notes, in place of what was copied, that there was no room for it.
func (j *Journal) cloneLost(ctx context.Context, t Ticket) error {
	if err := j.drop(ctx, t); err != nil {
		return err
	}
	err := j.put(ctx, t.session, t.spark, cloned().lost(overCap), true)
	if errors.Is(err, ErrJournalFull) { // not even for that: so much was lost there before
		return nil
	}
	return err
}

// drop drops the whole journal of a Spark session, now.
func (j *Journal) drop(ctx context.Context, t Ticket) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), j.SettleTimeout)
	defer cancel()
	return j.Store.DropJournal(ctx, t.session, t.spark)
}

// put is begin, and the commit at once.
func (j *Journal) put(ctx context.Context, id ID, spark SparkID, e *Entry, commit bool) error {
	t, err := j.begin(ctx, id, spark, e)
	if err != nil || !commit {
		return err
	}
	return j.Store.SettleEntry(ctx, id, spark, t.seq, true)
}

// cloneTurns lets one clone of a session be made at a time, and some in all: a clone is
// a small request, and holds as much memory as the largest entry that it copies.
type cloneTurns struct {
	seed  maphash.Seed
	turns [16]chan struct{}
}

func newCloneTurns() cloneTurns {
	c := cloneTurns{seed: maphash.MakeSeed()}
	for i := range c.turns {
		c.turns[i] = make(chan struct{}, 1)
	}
	return c
}

// enter waits for the session's turn, which ends with leave. ErrUnavailable where it did
// not come in time.
func (c *cloneTurns) enter(ctx context.Context, id ID) (leave func(), err error) {
	turn := c.turns[maphash.String(c.seed, string(id))%uint64(len(c.turns))]
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: clone journal: other clones are being made: %w", ErrUnavailable, ctx.Err())
	}
}
