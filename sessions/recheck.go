package sessions

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// recheckBatch is how many records one request to the registry reads.
	recheckBatch = 256
	// watchAgain is the pause before a lost subscription is tried again.
	watchAgain = 250 * time.Millisecond
)

// Run keeps the cache true until ctx ends: it hears of changes by push, and
// reads the sessions in use again every Recheck.
func (r *Resolver) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { r.watch(ctx) })
	wg.Go(func() { r.keepChecking(ctx) })
	if r.Uses != nil {
		wg.Go(func() { r.keepTouching(ctx) })
	}
	wg.Wait()
	return ctx.Err()
}

// watch subscribes, again and again. While it has no subscription a close is
// found by the re-check, within Trust.
func (r *Resolver) watch(ctx context.Context) {
	ready := func() {
		r.Logger.Info("session registry: subscribed to changes")
		r.askAll()
	}
	for ctx.Err() == nil {
		err := r.Directory.Watch(ctx, ready, r.changed)
		if ctx.Err() != nil {
			return
		}
		r.Logger.Warn("session registry: subscription lost, trying again", zap.Error(err))
		pause := time.NewTimer(watchAgain)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// changed takes one push message. Closed needs no reading, it is final.
func (r *Resolver) changed(c Change) {
	e := r.table.get(c.ID)
	switch {
	case c.State == Closed && e == nil:
		r.end(c.ID, ErrClosed)
	case c.State == Closed:
		s := e.snapshot.Load().session
		s.State, s.Generation, s.Revision = Closed, c.Generation, c.Revision
		r.apply(s, nil, nil, r.elapsed(), false)
	case e != nil:
		r.ask(c.ID)
	}
}

// ask has one session of the cache read again at once.
func (r *Resolver) ask(id ID) {
	r.mu.Lock()
	r.due[id] = struct{}{}
	r.mu.Unlock()
	r.wakeChecker()
}

// askAll has every session in use read again at once.
func (r *Resolver) askAll() {
	r.mu.Lock()
	for id := range r.known {
		r.due[id] = struct{}{}
	}
	r.mu.Unlock()
	r.wakeChecker()
}

func (r *Resolver) wakeChecker() {
	select {
	case r.dueNow <- struct{}{}:
	default:
	}
}

func (r *Resolver) keepChecking(ctx context.Context) {
	tick := time.NewTicker(r.Recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.notePart(r.check(ctx, r.inUse()))
		case <-r.dueNow:
			_ = r.check(ctx, r.takeDue()) // what it could not read the next tick says
		}
	}
}

// inUse drops what was not used within Grace and returns the open rest, at most
// MaxRecheck of it (a map's order is random, so none is forgotten for long).
func (r *Resolver) inUse() []ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.elapsed()
	ids := make([]ID, 0, min(len(r.known), r.MaxRecheck))
	for id, e := range r.known {
		if e.used.Swap(false) || e.live.streams.Load() > 0 || e.live.busy() {
			e.lastUsed = now
		}
		if now-e.lastUsed > r.Grace {
			r.drop(e)
			continue
		}
		if len(ids) < r.MaxRecheck && e.snapshot.Load().session.State != Closed {
			ids = append(ids, id)
		}
	}
	return ids
}

func (r *Resolver) takeDue() []ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]ID, 0, len(r.due))
	for id := range r.due {
		ids = append(ids, id)
	}
	clear(r.due)
	return ids
}

// check reads those sessions again. It stops where none of a batch can be read: the
// next re-check is near. partly is why some could not be, where others could.
func (r *Resolver) check(ctx context.Context, ids []ID) (partly error) {
	for batch := range slices.Chunk(ids, recheckBatch) {
		if ctx.Err() != nil {
			break
		}
		some, err := r.checkBatch(ctx, batch)
		if !some {
			break
		}
		partly = cmp.Or(partly, err)
	}
	return partly
}

// notePart says when a part of the registry goes away, and when it is back.
func (r *Resolver) notePart(away error) {
	switch {
	case away != nil && !r.partly:
		r.Logger.Error("a part of the session registry is away: known sessions there go on",
			zap.Duration("grace", r.Grace), zap.Error(away))
	case away == nil && r.partly:
		r.Logger.Info("no part of the session registry is away by itself any more")
	}
	r.partly = away != nil
}

// checkBatch says whether some of the records could be read, and why others could not.
func (r *Resolver) checkBatch(ctx context.Context, ids []ID) (some bool, err error) {
	asked := r.elapsed()
	found, err := r.get(ctx, ids...)
	for _, s := range found {
		r.apply(s, nil, nil, asked, false)
	}
	if err != nil && len(found) == 0 {
		r.note(err)
		return false, err
	}
	r.note(nil)
	if err != nil {
		r.missed(ids, found)
		return true, err
	}
	if lost := len(ids) - len(found); lost > 0 {
		r.Logger.Error("session registry has lost records: their sessions go on for a while",
			zap.Int("lost", lost), zap.Duration("grace", r.Grace))
	}
	return true, nil
}

// missed notes of which sessions the record could not be read, while others' were.
func (r *Resolver) missed(ids []ID, found []Session) {
	read := make(map[ID]bool, len(found))
	for _, s := range found {
		read[s.ID] = true
	}
	for _, id := range ids {
		if e := r.table.get(id); e != nil && !read[id] {
			e.missed.Add(1)
		}
	}
}
