package sessions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
)

// watch asks every engine whether it runs. The sessions of one that does not have
// failed: their next request wakes them, where their cluster allows it.
func (r *Reaper) watch(ctx context.Context) error {
	up, err := r.Store.Engines(ctx)
	if err != nil {
		return err
	}
	for _, e := range up {
		c := r.Clusters[e.Cluster]
		if c == nil || c.Launcher == nil {
			continue
		}
		gone := c.Launcher.Alive(ctx, e.Instance)
		if !errors.Is(gone, ErrGone) {
			continue // it runs, or it cannot be told
		}
		members, err := r.Store.DropEngine(ctx, e.Key, e.ID)
		if err != nil {
			return err
		}
		r.Logger.Error("engine has ended", zap.String("cluster", e.Cluster), zap.String("engine", e.ID), zap.Int("sessions", len(members)), zap.Error(gone))
		for id, generation := range members {
			r.fail(ctx, id, generation, gone)
		}
		r.Waker.stop(c, e.Instance) // whatever it left behind
	}
	return nil
}

// fail notes that the engine of an active session has ended.
func (r *Reaper) fail(ctx context.Context, id ID, generation uint64, why error) {
	_, err := r.Store.Transition(ctx, id, Transition{
		From: Active, Generation: generation, To: Failed, Reason: goneReason(why), At: r.Now(),
	})
	if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNotFound) {
		r.Logger.Error("session of an engine that has ended is not marked as failed", zap.String("session", string(id)), zap.Error(err))
	}
}

// goneReason is what the owner reads of an engine that ended.
func goneReason(why error) string {
	text := why.Error()
	if rest, ok := strings.CutPrefix(text, ErrGone.Error()); ok {
		return "its engine has ended" + rest
	}
	return "its engine has ended"
}

// orphanAge is how old an engine is before it is taken for an orphan.
const orphanAge = 10 * time.Second

// sweep finds what processes that died left behind: engines that no record knows,
// and members of engines that are no longer active.
func (r *Reaper) sweep(ctx context.Context) error {
	var orphans []orphan
	for _, c := range r.Clusters {
		if c.Launcher == nil {
			continue
		}
		found, err := r.suspects(ctx, c)
		if err != nil {
			return err
		}
		orphans = append(orphans, found...)
	}
	// The records are read last: who launched a suspect has put it there by now,
	// since nobody held the engine's lease.
	up, err := r.Store.Engines(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(up))
	for _, e := range up {
		known[e.ID] = true
	}
	for _, o := range orphans {
		if !known[o.ID] {
			r.Logger.Warn("engine without a record is stopped", zap.String("cluster", o.cluster.Name), zap.String("engine", o.ID))
			r.Waker.stop(o.cluster, o.Instance)
		}
	}
	return r.sweepMembers(ctx, up)
}

// orphan is an engine that runs and may have no record.
type orphan struct {
	Launched
	cluster *Cluster
}

// suspects are the engines of a cluster that nobody is launching.
func (r *Reaper) suspects(ctx context.Context, c *Cluster) ([]orphan, error) {
	running, err := c.Launcher.Running(ctx)
	if err != nil {
		return nil, fmt.Errorf("engines of cluster %s: %w", c.Name, err)
	}
	var list []orphan
	for _, l := range running {
		if l.Standby() || r.Now().Sub(l.StartedAt) < orphanAge {
			continue
		}
		leased, err := r.Store.EngineLeased(ctx, l.Spec.key())
		if err != nil {
			return nil, err
		}
		if !leased {
			list = append(list, orphan{l, c})
		}
	}
	return list, nil
}

// sweepMembers takes sessions off engines on which they no longer are.
func (r *Reaper) sweepMembers(ctx context.Context, up []EngineRecord) error {
	for _, e := range up {
		c := r.Clusters[e.Cluster]
		if c == nil || c.Launcher == nil {
			continue
		}
		ids := make([]ID, 0, len(e.Members))
		for id := range e.Members {
			ids = append(ids, id)
		}
		found, err := r.Store.Get(ctx, ids...)
		if err != nil {
			return err
		}
		there := make(map[ID]Session, len(found))
		for _, s := range found {
			there[s.ID] = s
		}
		for id, generation := range e.Members {
			if s, ok := there[id]; ok && r.left(s, e.ID) {
				r.Waker.leave(e.Key, c, id, generation)
			}
		}
	}
	return nil
}

// left says whether a session is no longer on an engine, and has not been for so
// long that whoever took it off would have finished.
func (r *Reaper) left(s Session, engine string) bool {
	settled := r.Now().Sub(s.ChangedAt) > r.LeaveDelay+r.Waker.Timeout
	switch s.State {
	case Closed:
		return true
	case Active:
		return s.Engine != nil && s.Engine.ID != engine && settled
	}
	return settled
}
