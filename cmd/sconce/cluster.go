package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

func (a *app) clusterCommand() *cobra.Command {
	return group("cluster", "List and describe clusters, and have them take nothing new",
		a.clusterList(), a.clusterDescribe(), a.clusterDrain(), a.clusterResume())
}

func (a *app) clusterList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the clusters that sessions may be created on", Args: noArgs}
	c := a.newClient(cmd, callTimeout)
	var out output
	out.flag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := out.check(); err != nil {
			return err
		}
		return c.doClusters(cmd.Context(), func(ctx context.Context, svc sconcev1.ClusterServiceClient) error {
			resp, err := svc.ListClusters(ctx, &sconcev1.ListClustersRequest{})
			if err != nil {
				return err
			}
			list := make([]clusterView, len(resp.GetClusters()))
			for i, one := range resp.GetClusters() {
				list[i] = viewCluster(one)
			}
			return out.print(a.stdout, list, func(w io.Writer) error {
				if len(list) == 0 {
					_, err := fmt.Fprintln(a.stderr, "no clusters: an operator writes them into the gateway's configuration, clusters")
					return err
				}
				return clusterTable(w, list)
			})
		})
	}
	return cmd
}

// clusterCall makes a command that calls the gateway about one cluster and prints it.
func (a *app) clusterCall(cmd *cobra.Command, call func(context.Context, sconcev1.ClusterServiceClient, string) (*sconcev1.Cluster, error)) *cobra.Command {
	cmd.Args = oneCluster
	c := a.newClient(cmd, callTimeout)
	var out output
	out.flag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		return c.doClusters(cmd.Context(), func(ctx context.Context, svc sconcev1.ClusterServiceClient) error {
			found, err := call(ctx, svc, args[0])
			if err != nil {
				return err
			}
			v := viewCluster(found)
			return out.print(a.stdout, v, func(w io.Writer) error { return clusterSheet(w, v) })
		})
	}
	return cmd
}

func oneCluster(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("%s takes the name of one cluster, not %d: see `sconce cluster list`", cmd.CommandPath(), len(args))}
	}
	return nil
}

func (a *app) clusterDescribe() *cobra.Command {
	cmd := &cobra.Command{Use: "describe CLUSTER", Short: "Show one cluster: its state, its engines, what sessions may choose"}
	return a.clusterCall(cmd, func(ctx context.Context, svc sconcev1.ClusterServiceClient, name string) (*sconcev1.Cluster, error) {
		resp, err := svc.DescribeCluster(ctx, &sconcev1.DescribeClusterRequest{Name: name})
		return resp.GetCluster(), err
	})
}

func (a *app) clusterDrain() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "drain CLUSTER", Short: "Have a cluster take nothing new, for operators",
		Long: "Have a cluster take nothing new: no session is created on it, and no engine is started for one\n" +
			"that wakes. Active sessions go on. Only operators may (auth.operators in the gateway's\n" +
			"configuration). It stays so until `sconce cluster resume`.",
		Example: "  sconce cluster drain lake --reason 'new disks, back at 14:00'",
	}
	cmd.Flags().StringVar(&reason, "reason", "", "what those read who are refused, up to 200 characters")
	return a.clusterCall(cmd, func(ctx context.Context, svc sconcev1.ClusterServiceClient, name string) (*sconcev1.Cluster, error) {
		resp, err := svc.DrainCluster(ctx, &sconcev1.DrainClusterRequest{Name: name, Reason: reason})
		return resp.GetCluster(), err
	})
}

func (a *app) clusterResume() *cobra.Command {
	cmd := &cobra.Command{Use: "resume CLUSTER", Short: "End a drain, for operators"}
	return a.clusterCall(cmd, func(ctx context.Context, svc sconcev1.ClusterServiceClient, name string) (*sconcev1.Cluster, error) {
		resp, err := svc.ResumeCluster(ctx, &sconcev1.ResumeClusterRequest{Name: name})
		return resp.GetCluster(), err
	})
}
