package sessions

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// progress says how far a wake is, in the record and the log.
type progress struct {
	waker   *Waker
	session Session
	lease   string // the token that the session's is held by
	began   time.Time

	mu    sync.Mutex
	now   string
	since time.Time
}

// stage notes what begins.
func (p *progress) stage(ctx context.Context, name string) {
	w := p.waker
	p.mu.Lock()
	was, since := p.now, p.since
	p.now, p.since = name, w.Now()
	p.mu.Unlock()
	if was == name {
		return
	}
	if was != "" {
		w.Staged(p.session.Cluster, was, w.Now().Sub(since))
	}
	w.Logger.Info("session is being woken", zap.String("session", string(p.session.ID)),
		zap.String("cluster", p.session.Cluster), zap.String("stage", name))
	if err := w.Store.SetStage(ctx, p.session.ID, name, ""); err != nil {
		w.Logger.Debug("stage was not recorded", zap.Error(err))
	}
}

func (p *progress) end(err error) {
	w := p.waker
	p.mu.Lock()
	was, since := p.now, p.since
	p.mu.Unlock()
	if was != "" {
		w.Staged(p.session.Cluster, was, w.Now().Sub(since))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), time.Second)
	defer cancel()
	failure := ""
	if err != nil {
		failure = wakeReason(err)
	} else {
		w.Logger.Info("session is awake", zap.String("session", string(p.session.ID)), zap.Duration("took", w.Now().Sub(p.began)))
	}
	if err := w.Store.SetStage(ctx, p.session.ID, "", failure); err != nil {
		w.Logger.Debug("stage was not recorded", zap.Error(err))
	}
}

// wakeReason is what the owner reads of a wake that failed.
func wakeReason(err error) string {
	var launch *LaunchError
	var cluster *ClusterError
	var setup *SetupError
	var limit *LimitError
	var drain *DrainError
	switch {
	case errors.As(err, &drain):
		return drain.Error()
	case errors.As(err, &limit):
		return fmt.Sprintf("the limit %s (%d) is reached", limit.Limit, limit.Max)
	case errors.As(err, &setup):
		return setup.What + " cannot be used: " + setup.Problem
	case errors.As(err, &launch):
		return launch.Reason
	case errors.As(err, &cluster):
		return cluster.Reason
	case errors.Is(err, ErrUnavailable):
		return "the session registry was away"
	case tooLong(err):
		return "it took too long"
	}
	return "it was given up: the next request tries again"
}
