package sessions

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"go.uber.org/zap"
)

// ListClusters returns how all clusters are, by name.
func (m *Manager) ListClusters(ctx context.Context, a Actor) (list []ClusterStatus, err error) {
	_, entry, err := m.checkAndAudit(ctx, a, ActionListClusters, "")
	if err != nil {
		return nil, err
	}
	defer func() { entry.end(err) }()
	all := make([]*Cluster, 0, len(m.Clusters))
	for _, c := range m.Clusters {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *Cluster) int { return cmp.Compare(a.Name, b.Name) })
	return m.status(ctx, all...)
}

// DescribeCluster returns how one cluster is. ErrNoCluster.
func (m *Manager) DescribeCluster(ctx context.Context, a Actor, name string) (ClusterStatus, error) {
	return m.onCluster(ctx, a, ActionDescribeCluster, name, "", func(*Cluster) error { return nil })
}

// DrainCluster has a cluster take nothing new. A cluster that is draining stays as it
// is. Where that is done and how the cluster is cannot be read, the state is all that
// is told. ErrNoCluster, *InvalidError.
func (m *Manager) DrainCluster(ctx context.Context, a Actor, name, reason string) (ClusterStatus, error) {
	return m.onCluster(ctx, a, ActionDrainCluster, name, ClusterDraining, func(c *Cluster) error {
		if err := validDrainReason(reason); err != nil {
			return err
		}
		return m.Waker.Store.Drain(ctx, c.Name, Drain{At: m.Now(), Reason: reason})
	})
}

// ResumeCluster ends a drain, and tells of it as DrainCluster does. A cluster that is
// not draining stays as it is. ErrNoCluster.
func (m *Manager) ResumeCluster(ctx context.Context, a Actor, name string) (ClusterStatus, error) {
	return m.onCluster(ctx, a, ActionResumeCluster, name, ClusterActive, func(c *Cluster) error { return m.Waker.Store.Resume(ctx, c.Name) })
}

// onCluster does something with a cluster and returns how it is then. made is the state
// that it certainly has by that, "" = it changes nothing.
func (m *Manager) onCluster(ctx context.Context, a Actor, action Action, name string, made ClusterState, do func(*Cluster) error) (s ClusterStatus, err error) {
	_, entry, err := m.checkAndAudit(ctx, a, action, "")
	if err != nil {
		return ClusterStatus{}, err
	}
	defer func() { entry.end(err) }()
	c := m.Clusters[name] // "" names none here
	if c == nil {
		return ClusterStatus{}, fmt.Errorf("%w: %q", ErrNoCluster, name)
	}
	entry.cluster = c.Name
	if err := do(c); err != nil {
		return ClusterStatus{}, err
	}
	list, err := m.status(ctx, c)
	if err != nil && made != "" {
		m.Logger.Warn("cluster is "+string(made)+" now, and how it is cannot be read", zap.String("cluster", c.Name), zap.Error(err))
		return ClusterStatus{Cluster: c, State: made}, nil
	}
	if err != nil {
		return ClusterStatus{}, err
	}
	return list[0], nil
}
