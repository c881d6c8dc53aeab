package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions/failpoint"
)

// bringUp wakes a session on an engine that is up or is brought up.
func (w *Waker) bringUp(ctx context.Context, p *progress, c *Cluster) error {
	s, key := p.session, keyOf(p.session, c)
	in, err := w.engine(ctx, p, c, key)
	if err != nil {
		return err
	}
	if s.Engine == nil || s.Engine.ID != in.ID {
		p.stage(ctx, "restoring the session's state")
		if err = w.Restore(ctx, c.at(&in), s); err != nil && !errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
			w.Logger.Error("state of a session could not be restored", zap.String("session", string(s.ID)), zap.Error(err))
			err = &LaunchError{Cluster: c.Name, Reason: "the session's state could not be restored on its new engine"}
		}
	}
	if err == nil {
		err = w.trySetup(ctx, p, c.at(&in))
	}
	failpoint.Hit("wake.restored")
	if err == nil {
		err = w.become(ctx, s, &in)
	}
	if err != nil && !w.withdraw(p, key, c, in) {
		return err
	}
	failpoint.Hit("wake.active")
	return w.stands(ctx, key, c, s, in)
}

// stands makes sure of the engine of a session that has just become active: one that
// ended before that has failed nobody, and another may be up in its place.
func (w *Waker) stands(ctx context.Context, key EngineKey, c *Cluster, s Session, in Instance) error {
	up, err := w.Store.JoinEngine(ctx, key, s.ID, s.Generation+1)
	if err == nil && up.ID == in.ID || err != nil && !errors.Is(err, ErrEngineDown) {
		return nil
	}
	_, err = w.Store.Transition(ctx, s.ID, Transition{
		From: Active, Generation: s.Generation + 1, To: Failed, Reason: "its engine has ended", At: w.Now(),
	})
	w.leave(key, c, s.ID, s.Generation+1)
	return err
}

// become records the session as active. Its next look comes first, so that no
// active session is without one.
func (w *Waker) become(ctx context.Context, s Session, in *Instance) error {
	if idle := s.IdleTimeout; idle > 0 {
		now, err := w.Store.Clock(ctx)
		if err != nil {
			return err
		}
		if err := w.Store.Schedule(ctx, s.ID, now.Add(idle)); err != nil {
			return err
		}
	}
	failpoint.Hit("wake.scheduled")
	_, err := w.Store.Transition(ctx, s.ID, Transition{
		From: s.State, Generation: s.Generation, To: Active, At: w.Now(), Engine: in,
	})
	return err
}

// engine returns the engine of that key with the session as its member: the one
// that is up, or one that is launched under the engine's lease.
func (w *Waker) engine(ctx context.Context, p *progress, c *Cluster, key EngineKey) (Instance, error) {
	s, token := p.session, uuid.NewString()
	for dead := 1; ; {
		in, err := w.Store.JoinEngine(ctx, key, s.ID, s.Generation+1)
		if err == nil && errors.Is(c.Launcher.Alive(ctx, in), ErrGone) {
			// Its other sessions are seen to by Reaper.watch, which is soon, but not while
			// anybody who wakes is a member: so those who are many look less often.
			w.leave(key, c, s.ID, s.Generation+1)
			if err = pause(ctx, w.Poll*time.Duration(dead)); err == nil {
				dead = min(dead+1, 10)
				continue
			}
		}
		if !errors.Is(err, ErrEngineDown) {
			return in, err
		}
		mine, err := w.Store.LeaseEngine(ctx, key, token, w.Lease)
		if err != nil {
			return Instance{}, err
		}
		if mine {
			return w.launch(ctx, p, c, key, token)
		}
		p.stage(ctx, "waiting for the cluster's engine")
		if err := pause(ctx, w.Poll); err != nil {
			return Instance{}, err
		}
	}
}

func (w *Waker) launch(ctx context.Context, p *progress, c *Cluster, key EngineKey, token string) (Instance, error) {
	s := p.session
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = w.Store.UnleaseEngine(ctx, key, token) // else it runs out
	}()
	ctx, stop := w.keep(ctx, func(ctx context.Context) (bool, error) {
		return w.Store.LeaseEngine(ctx, key, token, w.Lease)
	})
	defer stop()
	// Between the join that found nothing and the lease, another replica may have
	// put one up.
	if in, err := w.Store.JoinEngine(ctx, key, s.ID, s.Generation+1); !errors.Is(err, ErrEngineDown) {
		return in, err
	}
	if err := w.takes(ctx, c); err != nil {
		return Instance{}, err
	}
	p.stage(ctx, "starting the engine")
	spec := LaunchSpec{Cluster: c.Name, Session: s.ID, Generation: s.Generation + 1, KeepFor: KeepForEver}
	if c.Isolation == IsolateNone {
		spec.Session = ""
	}
	record := EngineRecord{Key: key, Cluster: c.Name, Members: map[ID]uint64{s.ID: s.Generation + 1}}
	if c.Isolation != IsolateNone {
		record.Place = Place{Org: s.Org, Owner: s.Owner, Lease: token}
		if err := w.Store.TakePlace(ctx, key, record.Place); err != nil {
			return Instance{}, err
		}
	}
	in, err := c.Launcher.Launch(ctx, spec, func(stage string) { p.stage(ctx, stage) })
	if err != nil {
		w.freePlace(record)
		return Instance{}, err
	}
	failpoint.Hit("wake.launched")
	if in.Version == "" {
		in.Version = w.version(ctx, c.at(&in))
	}
	record.Instance = in
	if err = w.Store.PutEngine(ctx, record, token); err != nil {
		w.stop(c, in)
		w.freePlace(record)
		return Instance{}, fmt.Errorf("record engine %s: %w", in.ID, err)
	}
	failpoint.Hit("wake.put")
	w.Logger.Info("engine is up", zap.String("cluster", c.Name), zap.String("session", string(s.ID)), zap.String("engine", in.ID))
	return in, nil
}

// freePlace gives back what an engine took that does not come.
func (w *Waker) freePlace(e EngineRecord) {
	if e.Place == (Place{}) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), leaveTimeout)
	defer cancel()
	if err := w.Store.FreePlace(ctx, e.Key, e.Place); err != nil {
		w.Logger.Debug("place of an engine was not given back: it ends with the lease", zap.String("engine", string(e.Key)), zap.Error(err))
	}
}

// versionTimeout is how long a new engine may take to say which Spark it is. No
// session is kept waiting for longer by that.
const versionTimeout = 5 * time.Second

// version asks an engine which Spark it is; "" = it does not tell, which keeps
// nobody from using it.
func (w *Waker) version(ctx context.Context, engine *Cluster) string {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	text, err := w.Engine.Version(ctx, engine)
	if err != nil {
		w.Logger.Warn("engine does not say which Spark it is", zap.String("cluster", engine.Name), zap.Error(err))
		return ""
	}
	return shownVersion(text)
}

// KeepForEver is longer than any session: an engine that forgot a Spark session would not
// have it back by that id. When a session was used says nothing of each of its Spark
// sessions, of which it may have many for as long as it lives.
const KeepForEver = 10 * 365 * 24 * time.Hour

// depart takes a session that is no longer active off its engine. Where its cluster is
// not configured here, that is only forgotten: it counts in nobody's limits then, and
// ends by itself or by the sweep of a replica that knows the cluster.
func (w *Waker) depart(s Session) {
	c, err := w.Clusters.Get(s.Cluster)
	switch {
	case err != nil:
		w.leave(keyOf(s, &Cluster{}), nil, s.ID, s.Generation)
	case c.Launcher != nil:
		w.leave(keyOf(s, c), c, s.ID, s.Generation)
	}
}

// leave takes a session off its engine, and stops that with its last one; c = nil: not
// from here.
func (w *Waker) leave(key EngineKey, c *Cluster, id ID, generation uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), leaveTimeout)
	defer cancel()
	in, err := w.Store.LeaveEngine(ctx, key, id, generation)
	if err != nil {
		w.Logger.Warn("session could not be taken off its engine: the sweep will", zap.String("session", string(id)), zap.Error(err))
		return
	}
	if in != nil && c != nil {
		failpoint.Hit("engine.left")
		w.stop(c, *in)
	}
}

const leaveTimeout = 5 * time.Second

// stop ends an engine, whatever ended before it.
func (w *Waker) stop(c *Cluster, in Instance) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), w.StopTimeout)
	defer cancel()
	if err := c.Launcher.Stop(ctx, in); err != nil {
		w.Logger.Error("engine was not stopped: the sweep will try again", zap.String("cluster", c.Name), zap.String("engine", in.ID), zap.Error(err))
		return
	}
	w.Logger.Info("engine is stopped", zap.String("cluster", c.Name), zap.String("engine", in.ID))
}
