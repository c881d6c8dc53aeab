package sessions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	// missingFor is how long a session that was not found is not asked for again.
	missingFor = time.Second
	// maxMissing bounds how many such ids are remembered.
	maxMissing = 4096
)

// readShared reads one record; callers that ask at the same time share one read.
func (r *Resolver) readShared(ctx context.Context, id ID) (*snapshot, error) {
	r.mu.Lock()
	if s, err := r.settled(id); s != nil || err != nil {
		r.mu.Unlock()
		return s, err
	}
	if c := r.reads[id]; c != nil {
		r.mu.Unlock()
		select {
		case <-c.done:
			return c.snap, c.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c := &read{done: make(chan struct{})}
	r.reads[id] = c
	r.mu.Unlock()

	c.snap, c.err = r.read(ctx, id)

	r.mu.Lock()
	delete(r.reads, id)
	r.mu.Unlock()
	close(c.done)
	return c.snap, c.err
}

// settled answers without the registry where that can be done: closed is final,
// failed for good is believed as long as active would be, and what was not found a
// moment ago is not asked for again. What can be woken is read each time: another
// replica may have done so. Under mu.
func (r *Resolver) settled(id ID) (*snapshot, error) {
	if e := r.known[id]; e != nil {
		s := e.snapshot.Load()
		if s.session.State == Closed || s.session.State == Failed && ended(s.err) && r.trusted(e) {
			return s, nil
		}
	}
	if until, ok := r.missing[id]; ok {
		if r.elapsed() < until {
			return nil, ErrNotFound
		}
		delete(r.missing, id)
	}
	return nil, nil
}

// read gets one record into the cache. The caller's cancellation does not end
// it, since others may wait for the same read; ReadTimeout does, for each of the
// questions anew: all of them may be slow, and the first that is not answered is
// the last.
func (r *Resolver) read(ctx context.Context, id ID) (*snapshot, error) {
	if !r.mayTry() {
		return nil, ErrUnavailable
	}
	ctx = context.WithoutCancel(ctx)
	asked := r.elapsed()
	found, err := r.get(ctx, id)
	r.note(err)
	if err != nil {
		return nil, fmt.Errorf("resolve session %s: %w", id, err)
	}
	if len(found) == 0 {
		r.rememberMissing(id)
		return nil, ErrNotFound
	}
	bound, err := r.readBound(ctx, found[0])
	if err != nil {
		return nil, err
	}
	carried, err := r.readCarried(ctx, found[0])
	if err != nil {
		return nil, err
	}
	return r.apply(found[0], bound, carried, asked, true), nil
}

func (r *Resolver) get(ctx context.Context, ids ...ID) ([]Session, error) {
	ctx, cancel := context.WithTimeout(ctx, r.ReadTimeout)
	defer cancel()
	return r.Directory.Get(ctx, ids...)
}

// readCarried reads what an engine that is not the session's first began with, once
// for each generation.
func (r *Resolver) readCarried(ctx context.Context, s Session) (*generationSparks, error) {
	if s.State != Active {
		return nil, nil
	}
	e := r.table.get(s.ID)
	if e == nil && s.EngineGeneration <= 1 {
		return nil, nil
	}
	if e != nil {
		if _, ok := e.live.sparksOf(s); ok {
			return nil, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, r.ReadTimeout)
	defer cancel()
	carried, err := r.Directory.Carried(ctx, s.ID, s.EngineGeneration)
	r.note(err)
	if err != nil {
		return nil, fmt.Errorf("resolve session %s: %w", s.ID, err)
	}
	return &generationSparks{generation: s.EngineGeneration, engine: s.engineID(), sparks: sparkRoutes(carried)}, nil
}

// readBound reads what is bound to a session that comes into the cache. Later
// the cache hears of bindings by its own Bind.
func (r *Resolver) readBound(ctx context.Context, s Session) ([]SparkID, error) {
	if s.State == Closed || r.table.get(s.ID) != nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.ReadTimeout)
	defer cancel()
	bound, err := r.Directory.Bound(ctx, s.ID)
	r.note(err)
	if err != nil {
		return nil, fmt.Errorf("resolve session %s: %w", s.ID, err)
	}
	return bound, nil
}

// note counts failures of the registry in a row.
func (r *Resolver) note(err error) {
	if !errors.Is(err, ErrUnavailable) {
		if r.failures.Swap(0) >= 2 {
			r.Logger.Info("session registry is back")
		}
		return
	}
	r.nextTry.Store(int64(r.elapsed() + r.Recheck))
	if r.failures.Add(1) == 2 {
		r.Logger.Error("session registry is away: known sessions go on",
			zap.Duration("grace", r.Grace), zap.Error(err))
	}
}

// mayTry lets one read in each Recheck go to a registry that is away, so that
// a hung registry gathers no waiting requests.
func (r *Resolver) mayTry() bool {
	if !r.away() {
		return true
	}
	next, now := r.nextTry.Load(), int64(r.elapsed())
	return now >= next && r.nextTry.CompareAndSwap(next, now+int64(r.Recheck))
}

func (r *Resolver) rememberMissing(id ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for old := range r.missing { // any will do: they are all gone in a second
		if len(r.missing) < maxMissing {
			break
		}
		delete(r.missing, old)
	}
	r.missing[id] = r.elapsed() + missingFor
}

// apply puts a record that was asked for at that time into the cache, unless a
// newer one is there that the registry still has, and returns what stands then.
// insert says that a session which is not in the cache comes into it.
func (r *Resolver) apply(s Session, bound []SparkID, carried *generationSparks, asked time.Duration, insert bool) *snapshot {
	r.mu.Lock()
	e := r.known[s.ID]
	if e == nil {
		e = r.insert(s, bound, carried, asked, insert)
		r.mu.Unlock()
		now := e.snapshot.Load()
		r.tellRevoked(now)
		return now
	}
	old := e.snapshot.Load()
	undone := old.undone(s, asked)
	if s.Revision < old.session.Revision && !undone {
		r.mu.Unlock()
		return old
	}
	if undone {
		r.Logger.Warn("session registry has lost changes of a session: it goes on as it was before", zap.String("session", string(s.ID)),
			zap.Uint64("known", old.session.Revision), zap.Uint64("found", s.Revision))
		s.Revoked = allRevoked(old.session.Revoked, s.Revoked)
	}
	late := r.age(e) > r.Trust
	e.confirmed.Store(max(e.confirmed.Load(), int64(asked)))
	e.missed.Store(0)
	if carried != nil {
		e.live.carried.Store(carried)
	}
	// What is done to wake a session is no change of its revision.
	if s.Revision == old.session.Revision && s.Stage == old.session.Stage && !undone && (carried == nil || old.route != nil) {
		r.mu.Unlock()
		r.protest(s, e)
		return old
	}
	now := r.snapshotOf(s, e.live)
	e.snapshot.Store(now)
	r.mu.Unlock()

	close(old.replaced)
	if ended(now.err) && !ended(old.err) {
		r.end(s.ID, now.err)
		if late && s.State == Closed {
			r.OnLate(s)
		}
	}
	if s.Revoked != old.session.Revoked {
		r.tellRevoked(now)
	}
	r.protest(s, e)
	return now
}

// undone says that the registry no longer has the record which the cache knows: a
// failover loses the last writes, and others may have taken their place. Only a read
// that began when the cache knew it can tell. A closed session stays closed.
func (s *snapshot) undone(now Session, asked time.Duration) bool {
	old := &s.session
	switch {
	case asked <= s.applied, old.State == Closed, now.Revision > old.Revision:
		return false
	case now.Revision < old.Revision:
		return true
	}
	return now.State != old.State || now.Generation != old.Generation || now.engineID() != old.engineID() ||
		allRevoked(old.Revoked, now.Revoked) != old.Revoked
}

// allRevoked is known with those tokens of more that it lacks: what was revoked stays
// so here, though the registry lost it.
func allRevoked(known, more string) string {
	for token := range strings.FieldsSeq(more) {
		if !IsRevoked(known, token) {
			known = strings.TrimPrefix(known+" "+token, " ")
		}
	}
	return known
}

// protest wakes a session again that became idle while a stream of it was on its
// way here. Its engine is still up. It does so at each look until the session is
// active: a wake may fail.
func (r *Resolver) protest(s Session, e *entry) {
	if r.Waker == nil || s.State != Idle || !e.live.busy() {
		return
	}
	if _, err := r.Waker.begin(s); err != nil {
		r.Logger.Warn("session became idle while it was in use, and was not woken", zap.String("session", string(s.ID)), zap.Error(err))
	}
}

// tellRevoked has the streams end that came by a revoked token.
func (r *Resolver) tellRevoked(s *snapshot) {
	if s.session.Revoked != "" && !ended(s.err) {
		r.OnRevoke(s.session.ID, s.session.Revoked)
	}
}

// insert makes an entry, and keeps it unless it may not or the cache is full of
// sessions with open streams. Under mu.
func (r *Resolver) insert(s Session, bound []SparkID, carried *generationSparks, asked time.Duration, keep bool) *entry {
	e := &entry{id: s.ID, live: newLive(bound), lastUsed: asked}
	e.live.carried.Store(carried)
	e.used.Store(true)
	e.confirmed.Store(int64(asked))
	e.snapshot.Store(r.snapshotOf(s, e.live))
	if keep && (len(r.known) < r.MaxKnown || r.makeRoom()) {
		r.known[s.ID] = e
		r.table.put(e)
	}
	return e
}

// makeRoom drops some session that is not busy. Under mu.
func (r *Resolver) makeRoom() bool {
	tries := 16
	for _, e := range r.known {
		if !e.live.busy() {
			r.drop(e)
			return true
		}
		if tries--; tries == 0 {
			break
		}
	}
	return false
}

func (r *Resolver) drop(e *entry) {
	delete(r.known, e.id)
	r.table.remove(e.id)
}

// snapshotOf says what a record means to a caller.
func (r *Resolver) snapshotOf(s Session, l *live) *snapshot {
	snap := &snapshot{session: s, applied: r.elapsed(), replaced: make(chan struct{})}
	switch s.State {
	case Active:
		cluster, err := r.Clusters.Get(s.Cluster)
		if err != nil {
			snap.err = err
			return snap
		}
		if cluster.Launcher != nil && s.Engine != nil && !cluster.Launcher.Reaches(*s.Engine) {
			snap.err = &FailedError{Session: s.ID, Generation: s.Generation, Reason: "its engine is on another machine than this Sconce: operators, see docs/operations.md on launch"}
			return snap
		}
		sparks, ok := l.sparksOf(s)
		if !ok { // Lookup reads it: readCarried
			snap.err = ErrPending
			return snap
		}
		snap.route = &Route{Session: s, Cluster: cluster.at(s.Engine), live: l, sparks: sparks}
	case Closed:
		snap.err = ErrClosed
	case Failed:
		snap.err = &FailedError{Session: s.ID, Generation: s.Generation, Reason: s.Reason}
		if r.Waker != nil && r.Clusters.Wakeable(s) {
			snap.err = ErrPending
		}
	default: // pending, idle
		snap.err = ErrPending
	}
	return snap
}

func ended(err error) bool { return errors.Is(err, ErrClosed) || errors.Is(err, ErrFailed) }

func (r *Resolver) end(id ID, why error) {
	r.Logger.Info("session ended", zap.String("session", string(id)), zap.Error(why))
	r.OnEnd(id, why)
}
