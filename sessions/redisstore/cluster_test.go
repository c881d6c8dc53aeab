package redisstore_test

import (
	"testing"

	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// Real servers in cluster mode refuse whatever touches two hash slots. Three of
// them share the slots, so keys of one suite lie on all.
func TestConformanceRealCluster(t *testing.T) {
	t.Parallel()
	cluster := storetest.StartRedisCluster(t, 3)
	storetest.Run(t, func(t *testing.T) storetest.Registry {
		return open(t, redisstore.Config{Addresses: cluster.Addrs, Cluster: true})
	})
}
