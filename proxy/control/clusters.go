package control

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
	"github.com/sconce-dev/sconce/sessions"
)

// ListClusters implements sconce.v1.
func (s *Service) ListClusters(ctx context.Context, _ *sconcev1.ListClustersRequest) (*sconcev1.ListClustersResponse, error) {
	return answer(ctx, s, func(a sessions.Actor) (*sconcev1.ListClustersResponse, error) {
		list, err := s.Clusters.ListClusters(ctx, a)
		resp := &sconcev1.ListClustersResponse{}
		for _, c := range list {
			resp.Clusters = append(resp.Clusters, clusterMessage(c))
		}
		return resp, err
	})
}

// DescribeCluster implements sconce.v1.
func (s *Service) DescribeCluster(ctx context.Context, r *sconcev1.DescribeClusterRequest) (*sconcev1.DescribeClusterResponse, error) {
	return answer(ctx, s, func(a sessions.Actor) (*sconcev1.DescribeClusterResponse, error) {
		c, err := s.Clusters.DescribeCluster(ctx, a, r.GetName())
		return &sconcev1.DescribeClusterResponse{Cluster: clusterMessage(c)}, err
	})
}

// DrainCluster implements sconce.v1.
func (s *Service) DrainCluster(ctx context.Context, r *sconcev1.DrainClusterRequest) (*sconcev1.DrainClusterResponse, error) {
	return answer(ctx, s, func(a sessions.Actor) (*sconcev1.DrainClusterResponse, error) {
		c, err := s.Clusters.DrainCluster(ctx, a, r.GetName(), r.GetReason())
		return &sconcev1.DrainClusterResponse{Cluster: clusterMessage(c)}, err
	})
}

// ResumeCluster implements sconce.v1.
func (s *Service) ResumeCluster(ctx context.Context, r *sconcev1.ResumeClusterRequest) (*sconcev1.ResumeClusterResponse, error) {
	return answer(ctx, s, func(a sessions.Actor) (*sconcev1.ResumeClusterResponse, error) {
		c, err := s.Clusters.ResumeCluster(ctx, a, r.GetName())
		return &sconcev1.ResumeClusterResponse{Cluster: clusterMessage(c)}, err
	})
}

var clusterStates = map[sessions.ClusterState]sconcev1.Cluster_State{
	sessions.ClusterActive:      sconcev1.Cluster_ACTIVE,
	sessions.ClusterDraining:    sconcev1.Cluster_DRAINING,
	sessions.ClusterUnreachable: sconcev1.Cluster_UNREACHABLE,
}

// unknownVersion is what an engine is called that does not tell its version.
const unknownVersion = "unknown"

// clusterMessage shows what everybody may see: no address, no token.
func clusterMessage(s sessions.ClusterStatus) *sconcev1.Cluster {
	c := s.Cluster
	if c == nil { // there is an error instead
		return nil
	}
	m := &sconcev1.Cluster{
		Name: c.Name, Kind: sconcev1.Cluster_ADDRESS, State: clusterStates[s.State], Reason: s.Reason, DrainTime: timestamp(s.DrainedAt),
		EngineVersions: map[string]int32{}, Sessions: count(s.Sessions), StandingBy: count(s.Standing),
		IdleTimeout: durationpb.New(c.Policy.IdleTimeout), MinIdleTimeout: durationpb.New(c.Policy.MinIdleTimeout),
		MaxIdleTimeout: durationpb.New(c.Policy.MaxIdleTimeout), AllowNeverIdle: c.Policy.AllowNeverIdle, Catalogs: c.Policy.Catalogs,
	}
	if c.Launcher != nil {
		m.Kind, m.Isolation = sconcev1.Cluster_LAUNCHED, sconcev1.Cluster_SESSION
		if c.Isolation == sessions.IsolateNone {
			m.Isolation = sconcev1.Cluster_SHARED
		}
	}
	for version, n := range s.Engines {
		if version == "" {
			version = unknownVersion
		}
		m.Engines += count(n)
		m.EngineVersions[version] += count(n)
	}
	return m
}

func count(n int) int32 { return int32(n) } //nolint:gosec // engines and their sessions are some thousands
