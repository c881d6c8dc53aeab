package redisstore_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// Real servers in cluster mode refuse whatever touches two hash slots. Three of
// them share the slots, so keys of one suite lie on all.
func TestConformanceRealCluster(t *testing.T) {
	t.Parallel()
	addrs := startCluster(t, 3)
	storetest.Run(t, func(t *testing.T) storetest.Registry {
		return open(t, redisstore.Config{Addresses: addrs, Cluster: true})
	})
}

// startCluster joins servers without the help of redis-cli: each is told of its
// slots and of the others, and asked until it sees the whole.
func startCluster(t *testing.T, n int) []string {
	t.Helper()
	const slots = 16384
	var addrs []string
	var nodes []*redis.Client
	var bus string // of the first node
	for i := range n {
		own := storetest.FreePort(t)
		server := storetest.StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", own)
		if i == 0 {
			bus = own
		}
		node := redis.NewClient(&redis.Options{Addr: server.Addr})
		t.Cleanup(func() { node.Close() })
		addrs, nodes = append(addrs, server.Addr), append(nodes, node)
		if err := node.ClusterAddSlotsRange(t.Context(), i*slots/n, (i+1)*slots/n-1).Err(); err != nil {
			t.Fatal(err)
		}
		if err := node.Do(t.Context(), "CLUSTER", "MEET", "127.0.0.1", portOf(addrs[0]), bus).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range nodes {
		awaitWhole(t, node, n)
	}
	return addrs
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// awaitWhole asks until the node knows all slots' owners and calls the cluster ok.
func awaitWhole(t *testing.T, node *redis.Client, n int) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		info, err := node.ClusterInfo(t.Context()).Result()
		owners, _ := node.ClusterShards(t.Context()).Result()
		if err == nil && strings.Contains(info, "cluster_state:ok") && len(owners) == n {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the cluster is not whole: %s %v", info, err)
		}
	}
}
