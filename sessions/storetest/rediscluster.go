package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// slots is how many hash slots a Redis Cluster has.
const slots = 16384

// RedisCluster is real redis-servers that share the hash slots.
type RedisCluster struct {
	// Addrs are their addresses.
	Addrs []string

	t       testing.TB
	servers []*Redis
	nodes   []*redis.Client
	ids     []string
}

// StartRedisCluster joins n servers without the help of redis-cli: each is told of its
// slots and of the others, and asked until it sees the whole.
func StartRedisCluster(t testing.TB, n int) *RedisCluster {
	t.Helper()
	c := &RedisCluster{t: t}
	var bus, first string // of the first node
	for i := range n {
		own := FreePort(t)
		server := StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", own)
		if i == 0 {
			bus, first = own, server.Port()
		}
		node := redis.NewClient(&redis.Options{Addr: server.Addr})
		t.Cleanup(func() { node.Close() })
		c.Addrs, c.nodes, c.servers = append(c.Addrs, server.Addr), append(c.nodes, node), append(c.servers, server)
		c.must(node.ClusterAddSlotsRange(t.Context(), i*slots/n, (i+1)*slots/n-1).Err())
		c.must(node.Do(t.Context(), "CLUSTER", "MEET", "127.0.0.1", first, bus).Err())
		id, err := node.ClusterMyID(t.Context()).Result()
		c.must(err)
		c.ids = append(c.ids, id)
	}
	for _, node := range c.nodes {
		c.awaitWhole(node)
	}
	return c
}

func (c *RedisCluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// awaitWhole asks until the node knows all slots' owners and calls the cluster ok.
func (c *RedisCluster) awaitWhole(node *redis.Client) {
	c.t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		info, err := node.ClusterInfo(c.t.Context()).Result()
		owners, _ := node.ClusterShards(c.t.Context()).Result()
		if err == nil && strings.Contains(info, "cluster_state:ok") && len(owners) == len(c.nodes) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			c.t.Fatalf("the cluster is not whole: %s %v", info, err)
		}
	}
}

// Node is the number of the node that has a key.
func (c *RedisCluster) Node(key string) int {
	c.t.Helper()
	slot, err := c.nodes[0].ClusterKeySlot(c.t.Context(), key).Result()
	c.must(err)
	return c.owner(int(slot))
}

// Kill ends a node as a crash would.
func (c *RedisCluster) Kill(node int) { c.servers[node].Kill() }

// Move moves the slot of a key from the node that has it to the next one, as a
// resharding does, and calls between while its keys are on both.
func (c *RedisCluster) Move(key string, between func()) {
	c.t.Helper()
	ctx := c.t.Context()
	slot, err := c.nodes[0].ClusterKeySlot(ctx, key).Result()
	c.must(err)
	from := c.owner(int(slot))
	to := (from + 1) % len(c.nodes)
	setSlot := func(node int, words ...any) {
		c.t.Helper()
		c.must(c.nodes[node].Do(ctx, append([]any{"CLUSTER", "SETSLOT", slot}, words...)...).Err())
	}
	setSlot(to, "IMPORTING", c.ids[from])
	setSlot(from, "MIGRATING", c.ids[to])
	host, port, _ := strings.Cut(c.Addrs[to], ":")
	for half := true; ; half = false {
		keys, err := c.nodes[from].ClusterGetKeysInSlot(ctx, int(slot), 1000).Result()
		c.must(err)
		if len(keys) == 0 {
			break
		}
		if half {
			keys = keys[:(len(keys)+1)/2]
		}
		words := []any{"MIGRATE", host, port, "", 0, 5000, "KEYS"}
		for _, key := range keys {
			words = append(words, key)
		}
		c.must(c.nodes[from].Do(ctx, words...).Err())
		if half {
			between()
		}
	}
	for node := range c.nodes {
		setSlot((to+node)%len(c.nodes), "NODE", c.ids[to]) // its new owner first
	}
}

// owner is the node that has a slot.
func (c *RedisCluster) owner(slot int) int {
	c.t.Helper()
	shards, err := c.nodes[0].ClusterShards(c.t.Context()).Result()
	c.must(err)
	for _, shard := range shards {
		for _, r := range shard.Slots {
			if int64(slot) >= r.Start && int64(slot) <= r.End {
				return slices.Index(c.ids, shard.Nodes[0].ID)
			}
		}
	}
	c.t.Fatalf("nobody has slot %d", slot)
	return 0
}
