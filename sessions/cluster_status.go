package sessions

import (
	"context"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"
)

// ClusterState says what a cluster takes.
type ClusterState string

const (
	// ClusterActive: sessions may be created on it.
	ClusterActive ClusterState = "active"
	// ClusterDraining: it takes no new session and no new engine; what is active on it
	// goes on.
	ClusterDraining ClusterState = "draining"
	// ClusterUnreachable: it is an address at which nothing answers.
	ClusterUnreachable ClusterState = "unreachable"
)

// ClusterStatus is a cluster and how it is.
type ClusterStatus struct {
	Cluster *Cluster
	State   ClusterState
	// Reason is why, for everybody to read: no addresses. "" = nothing to say.
	Reason string
	// DrainedAt is zero unless it is draining.
	DrainedAt time.Time
	// Engines is how many are up, by version; "" = they do not tell. An address that
	// answers is one.
	Engines map[string]int
	// Sessions is how many run on them. Of a cluster that is an address, none is counted.
	Sessions int
	// Standing is how many engines stand by, on this machine.
	Standing int
}

// Operator is who may drain and resume clusters. To administer an organisation is
// another matter: clusters are everybody's.
type Operator struct {
	// Org must be set.
	Org string
	// Subject is one of Org; "" = each administrator of it.
	Subject string
}

// is says whether an actor is that operator.
func (o Operator) is(a Actor) bool {
	return a.Known() && a.Org == o.Org && (o.Subject == "" && a.Admin || o.Subject != "" && a.Subject == o.Subject)
}

// status says how clusters are, in their order.
func (m *Manager) status(ctx context.Context, list ...*Cluster) ([]ClusterStatus, error) {
	drains, err := m.Waker.Store.Draining(ctx)
	if err != nil {
		return nil, err
	}
	up, err := m.Waker.Store.Engines(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]ClusterStatus, len(list))
	var wg sync.WaitGroup
	for i, c := range list {
		s := &all[i]
		*s = ClusterStatus{Cluster: c, State: ClusterActive, Engines: map[string]int{}}
		for _, e := range up {
			if e.Cluster == c.Name && c.Launcher != nil {
				s.Engines[e.Version]++
				s.Sessions += len(e.Members)
			}
		}
		if d, ok := drains[c.Name]; ok {
			s.State, s.Reason, s.DrainedAt = ClusterDraining, d.Reason, d.At
		}
		wg.Go(func() { m.look(ctx, s) })
	}
	wg.Wait()
	return all, nil
}

// look fills in what is not in the registry.
func (m *Manager) look(ctx context.Context, s *ClusterStatus) {
	c := s.Cluster
	if c.Launcher != nil {
		running, err := c.Launcher.Running(ctx)
		if err != nil {
			m.Logger.Warn("engines cannot be listed", zap.String("cluster", c.Name), zap.Error(err))
		}
		for _, l := range running {
			if l.Standby() {
				s.Standing++
			}
		}
		return
	}
	version, err := m.probe(ctx, c)
	switch {
	case err == nil:
		s.Engines[version] = 1
	case s.State == ClusterActive:
		s.State, s.Reason = ClusterUnreachable, probeReason(err, reachTimeout)
	}
}

// maxDrainReason is how long the reason of a drain may be, in letters.
const maxDrainReason = 200

// validDrainReason lets through what may be shown on anybody's terminal.
func validDrainReason(text string) error {
	ok := utf8.ValidString(text) && utf8.RuneCountInString(text) <= maxDrainReason
	for _, r := range text {
		ok = ok && unicode.IsPrint(r)
	}
	if !ok {
		return &InvalidError{"reason", "must be up to 200 printable characters"}
	}
	return nil
}
