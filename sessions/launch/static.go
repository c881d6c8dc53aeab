package launch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// Static is a server that somebody else keeps up. It is a sessions.Launcher that
// starts nothing and stops nothing.
type Static struct {
	cluster sessions.Cluster
	// Probe asks whether it serves; nil = sessions.EngineClient's.
	Probe func(context.Context, *sessions.Cluster) error
	// StartTimeout is how long Launch waits for it to serve; 0 = half a minute.
	StartTimeout time.Duration
}

// NewStatic returns the launcher of a cluster that has an address.
func NewStatic(c sessions.Cluster) *Static { return &Static{cluster: c} }

func (s *Static) instance() sessions.Instance {
	return sessions.Instance{ID: s.cluster.Name, Address: s.cluster.Address, Token: s.cluster.Token}
}

func (s *Static) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if s.Probe != nil {
		return s.Probe(ctx, &s.cluster)
	}
	return sessions.EngineClient{}.Probe(ctx, &s.cluster)
}

// Launch waits until the server serves.
func (s *Static) Launch(ctx context.Context, _ sessions.LaunchSpec, stage func(string)) (sessions.Instance, error) {
	if stage != nil {
		stage("waiting for the server to answer")
	}
	limit := s.StartTimeout
	if limit == 0 {
		limit = 30 * time.Second
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errLate)
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		err := s.probe(ctx)
		if err == nil {
			return s.instance(), nil
		}
		failed := &sessions.LaunchError{Cluster: s.cluster.Name}
		if errors.Is(err, sessions.ErrRefused) {
			failed.Reason, failed.Final = "the server refuses Sconce's token", true
			return sessions.Instance{}, failed
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			failed.Reason = fmt.Sprintf("the server does not answer after %s", limit)
			if !errors.Is(context.Cause(ctx), errLate) {
				failed.Reason = "waiting for it was given up"
			}
			return sessions.Instance{}, failed
		}
	}
}

// Stop does nothing.
func (s *Static) Stop(context.Context, sessions.Instance) error { return nil }

// Alive asks the server. It never says ErrGone: whether a server that does not
// answer has ended is not for us to know.
func (s *Static) Alive(ctx context.Context, _ sessions.Instance) error { return s.probe(ctx) }

// Reaches is true.
func (s *Static) Reaches(sessions.Instance) bool { return true }

// Running is the server.
func (s *Static) Running(context.Context) ([]sessions.Launched, error) {
	return []sessions.Launched{{Instance: s.instance(), Spec: sessions.LaunchSpec{Cluster: s.cluster.Name}}}, nil
}

// Run waits for ctx, as there is nothing to look after.
func (s *Static) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
