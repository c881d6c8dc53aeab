package sessions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions/failpoint"
)

// ReaperConfig is what a Reaper is made of.
type ReaperConfig struct {
	Store    WakeStore // required
	Waker    *Waker    // required
	Clusters Clusters

	// Every is how often sessions that are due are looked at. 0 = 1 s.
	Every time.Duration
	// LeaveDelay is how long after a session became idle its engine is stopped: by
	// then every replica knows that it is idle, and one that still has a stream of
	// it has woken it again. It must be longer than ResolverConfig.Trust and Grace.
	// 0 = 33 s.
	LeaveDelay time.Duration
	// WatchEvery is how often engines are asked whether they run. 0 = 2 s.
	WatchEvery time.Duration
	// SweepEvery is how often what crashes left behind is looked for. 0 = 20 s.
	SweepEvery time.Duration

	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// Logger; nil = none.
	Logger *zap.Logger
}

// Reaper makes unused sessions idle and stops their engines, finds engines that
// ended, and tidies up behind processes that died. Any number of replicas may run
// one: each step is compared with the registry and done once.
type Reaper struct {
	ReaperConfig
	start time.Time
	// drift is how far the registry's clock was ahead of ours when it was last
	// asked, skew by how much it has jumped ahead since the start, and jumped where it
	// stood before the last jump: what was used later is not older than it looks.
	drift, skew time.Duration
	jumped      time.Time
	asked       bool
}

// NewReaper checks c and starts nothing. Call Run.
func NewReaper(c ReaperConfig) (*Reaper, error) {
	if c.Store == nil || c.Waker == nil {
		return nil, errors.New("reaper: store and waker are needed")
	}
	setDefault(&c.Every, time.Second)
	setDefault(&c.LeaveDelay, 33*time.Second)
	setDefault(&c.WatchEvery, 2*time.Second)
	setDefault(&c.SweepEvery, 20*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return &Reaper{ReaperConfig: c, start: c.Now()}, nil
}

// Run does all of it until ctx ends.
func (r *Reaper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, loop := range []struct {
		every time.Duration
		do    func(context.Context) error
		what  string
	}{
		{r.Every, r.reap, "look at due sessions"},
		{r.WatchEvery, r.watch, "look after engines"},
		{r.SweepEvery, r.sweep, "sweep"},
	} {
		wg.Go(func() {
			for pause(ctx, loop.every) == nil {
				if err := loop.do(ctx); err != nil && ctx.Err() == nil {
					r.Logger.Warn("sessions are not looked after: trying again", zap.String("what", loop.what), zap.Error(err))
				}
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

const (
	// dueBatch is how many due sessions one look takes.
	dueBatch = 256
	// unknownFor is how long a session stays due whose cluster this replica does not
	// know: a replica that does has looked at it by then. If there is none, since the
	// cluster is no longer configured, it is due again after unknownAgain, to leave room
	// for the others.
	unknownFor   = time.Minute
	unknownAgain = 10 * time.Minute
)

// reap looks at every session whose time has come.
func (r *Reaper) reap(ctx context.Context) error {
	now, err := r.clock(ctx)
	if err != nil {
		return err
	}
	ids, err := r.Store.Scheduled(ctx, now, dueBatch)
	if err != nil || len(ids) == 0 {
		return err
	}
	found, away := r.Store.Get(ctx, ids...)
	there := make(map[ID]Session, len(found))
	for _, s := range found {
		there[s.ID] = s
	}
	var late map[ID]bool
	if slices.ContainsFunc(found, r.unknown) {
		if late, err = r.dueBefore(ctx, now.Add(-unknownFor)); err != nil {
			return err
		}
	}
	for _, id := range ids {
		s, ok := there[id]
		next := time.Time{}
		switch {
		case !ok && away != nil: // it may be among those that could not be read
			continue
		case !ok: // there is nothing to look at any more
		case !r.unknown(s):
			if next, err = r.look(ctx, s, now); err != nil {
				return err
			}
		case late[id]:
			next = now.Add(unknownAgain)
		default:
			continue
		}
		if err := r.Store.Schedule(ctx, id, next); err != nil {
			return err
		}
	}
	return away
}

// unknown says that it is for another replica to look at a session. One that is closed
// wants no cluster.
func (r *Reaper) unknown(s Session) bool {
	_, err := r.Clusters.Get(s.Cluster)
	return err != nil && s.State != Closed
}

// dueBefore is which sessions have been due since then.
func (r *Reaper) dueBefore(ctx context.Context, then time.Time) (map[ID]bool, error) {
	ids, err := r.Store.Scheduled(ctx, then, dueBatch)
	due := make(map[ID]bool, len(ids))
	for _, id := range ids {
		due[id] = true
	}
	return due, err
}

// jump is how far the registry's clock may move against ours between two looks.
const jump = 5 * time.Second

// clock reads the registry's clock and notes when it jumps: what was used before a
// jump ahead has not been unused for so much longer.
func (r *Reaper) clock(ctx context.Context) (time.Time, error) {
	now, err := r.Store.Clock(ctx)
	if err != nil {
		return now, err
	}
	drift := now.Sub(r.start) - r.Now().Sub(r.start) // the second is monotonic
	if moved := drift - r.drift; r.asked && (moved > jump || moved < -jump) {
		r.Logger.Warn("the registry's clock jumped: no session becomes idle by that", zap.Duration("by", moved))
		r.skew = max(0, r.skew+moved)
		if moved > 0 {
			r.jumped = now.Add(-moved)
		}
	}
	r.drift, r.asked = drift, true
	return now, nil
}

// skewOf is by how much a session was used later than it looks.
func (r *Reaper) skewOf(s Session) time.Duration {
	if s.UsedAt.After(r.jumped) {
		return 0
	}
	return r.skew
}

// look decides about one session whose time has come, and when it is looked at
// next; never is the zero time.
func (r *Reaper) look(ctx context.Context, s Session, now time.Time) (next time.Time, err error) {
	switch s.State {
	case Active:
		return r.idle(ctx, s, now)
	case Idle, Failed:
		if wait := r.LeaveDelay - r.Now().Sub(s.ChangedAt); wait > 0 && wait <= r.LeaveDelay {
			return now.Add(wait), nil
		}
		r.Waker.depart(s)
	case Closed:
		r.Waker.depart(s)
	case Pending: // it was never on an engine
	}
	return time.Time{}, nil
}

// idle makes a session idle that was not used for its time and has no operation
// running. Whether it was is decided by the registry, in the same step.
func (r *Reaper) idle(ctx context.Context, s Session, now time.Time) (time.Time, error) {
	limit, skew := s.IdleTimeout, r.skewOf(s)
	if limit == 0 {
		return time.Time{}, nil
	}
	if rest := limit - now.Add(-skew).Sub(s.UsedAt); rest > 0 {
		return now.Add(rest), nil
	}
	_, err := r.Store.Transition(ctx, s.ID, Transition{
		From: Active, Generation: s.Generation, To: Idle, Reason: fmt.Sprintf("unused for %s", limit),
		At: r.Now(), Unused: limit, Skew: skew,
	})
	switch {
	case err == nil:
		failpoint.Hit("idle.recorded")
		r.Logger.Info("session is idle", zap.String("session", string(s.ID)), zap.String("cluster", s.Cluster), zap.Duration("unused", limit))
		return now.Add(r.LeaveDelay), nil
	case errors.Is(err, ErrConflict): // it is in use, or another replica did it
		return now.Add(min(max(limit/4, r.Every), time.Minute)), nil
	case errors.Is(err, ErrClosed), errors.Is(err, ErrNotFound):
		return now, nil // the next look sees it so
	}
	return time.Time{}, err
}
