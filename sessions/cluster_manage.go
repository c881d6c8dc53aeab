package sessions

import (
	"cmp"
	"context"
	"fmt"
	"slices"
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
	return m.onCluster(ctx, a, ActionDescribeCluster, name, func(*Cluster) error { return nil })
}

// DrainCluster has a cluster take nothing new. A cluster that is draining stays as it
// is. ErrNoCluster, *InvalidError.
func (m *Manager) DrainCluster(ctx context.Context, a Actor, name, reason string) (ClusterStatus, error) {
	return m.onCluster(ctx, a, ActionDrainCluster, name, func(c *Cluster) error {
		if err := validDrainReason(reason); err != nil {
			return err
		}
		return m.Waker.Store.Drain(ctx, c.Name, Drain{At: m.Now(), Reason: reason})
	})
}

// ResumeCluster ends a drain. A cluster that is not draining stays as it is.
// ErrNoCluster.
func (m *Manager) ResumeCluster(ctx context.Context, a Actor, name string) (ClusterStatus, error) {
	return m.onCluster(ctx, a, ActionResumeCluster, name, func(c *Cluster) error { return m.Waker.Store.Resume(ctx, c.Name) })
}

// onCluster does something with a cluster and returns how it is then.
func (m *Manager) onCluster(ctx context.Context, a Actor, action Action, name string, do func(*Cluster) error) (s ClusterStatus, err error) {
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
	if err != nil {
		return ClusterStatus{}, err
	}
	return list[0], nil
}
