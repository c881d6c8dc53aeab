package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
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
		if err := r.ended(ctx, c, e.Key, e.ID, gone); err != nil {
			return err
		}
	}
	return nil
}

// ended sees to an engine that has ended. Its members are read anew: nobody has
// joined it since without finding that it is dead.
func (r *Reaper) ended(ctx context.Context, c *Cluster, key EngineKey, id string, gone error) error {
	up, err := r.Store.Engines(ctx)
	if err != nil {
		return err
	}
	for _, e := range up {
		if e.Key == key && e.ID == id {
			return r.Waker.ended(ctx, c, e, gone)
		}
	}
	return nil // somebody else did
}

// orphanAge is how old an engine is before it is taken for an orphan.
const orphanAge = 10 * time.Second

// sweep finds what processes that died left behind: engines that no record knows,
// and members of engines that are no longer active.
func (r *Reaper) sweep(ctx context.Context) error {
	var orphans []orphan
	var faults []error // of one cluster: the others are swept all the same
	for _, c := range r.Clusters {
		if c.Launcher == nil {
			continue
		}
		found, err := r.suspects(ctx, c)
		faults = append(faults, err)
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
	return errors.Join(append(faults, r.sweepMembers(ctx, up))...)
}

// orphan is an engine that runs and may have no record.
type orphan struct {
	Launched
	cluster *Cluster
}

// suspects are the engines of a cluster that nobody is launching, with an error those of
// which that could be told.
func (r *Reaper) suspects(ctx context.Context, c *Cluster) ([]orphan, error) {
	running, fault := c.Launcher.Running(ctx)
	if fault != nil {
		fault = fmt.Errorf("engines of cluster %s: %w", c.Name, fault)
	}
	var list []orphan
	for _, l := range running {
		if l.Standby() || r.Now().Sub(l.StartedAt) < orphanAge {
			continue
		}
		leased, err := r.Store.EngineLeased(ctx, l.Spec.key())
		if err != nil {
			return list, errors.Join(fault, err)
		}
		if !leased {
			list = append(list, orphan{l, c})
		}
	}
	return list, fault
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
			if s, ok := there[id]; !ok || !r.left(s, e.ID) {
				continue
			}
			if err := r.takeOff(ctx, e, c, id, generation); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeOff takes a session off an engine, unless it is being woken: then it may just
// have joined. To have its lease is to know that nobody wakes it.
func (r *Reaper) takeOff(ctx context.Context, e EngineRecord, c *Cluster, id ID, generation uint64) error {
	token := uuid.NewString()
	mine, err := r.Store.LeaseSession(ctx, id, token, r.Waker.Lease)
	if err != nil || !mine {
		return err
	}
	var last *Instance
	s, err := r.Waker.reread(ctx, id)
	if err == nil && r.left(s, e.ID) {
		last, err = r.Store.LeaveEngine(ctx, e.Key, id, generation)
	}
	r.Waker.giveBack(id, token)
	if last != nil {
		r.Waker.stop(c, *last)
	}
	return err
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
