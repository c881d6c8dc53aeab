package redisstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// The master dies; the sentinel makes the replica the master. Sessions that are
// known go on meanwhile, and then everything does, the push included.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	master := storetest.StartRedis(t)
	storetest.StartRedis(t, "--replicaof", "127.0.0.1 "+master.Port())
	sentinel := storetest.StartSentinel(t, master)
	r := startReplica(t, redisstore.Config{Addresses: []string{sentinel.Addr}, Master: "main"})
	known, unknown := activeSession(t, r.store), activeSession(t, r.store)
	r.use(t, known.ID)
	awaitReplica(t, master, sentinel)

	master.Kill()
	if _, err := r.Lookup(t.Context(), known.ID); err != nil {
		t.Errorf("a known session, no master: %v", err)
	}
	await(t, "the unknown session", func() bool { _, err := r.Lookup(t.Context(), unknown.ID); return err == nil })
	await(t, "the close", func() bool { // the client may try the old master once more
		_, err := r.store.Transition(t.Context(), known.ID, sessions.CloseAt(time.Now(), ""))
		return err == nil
	})
	r.wantEnd(t, known.ID, 2*time.Second)
}

// awaitReplica asks until the replica has all and the sentinel knows of it.
func awaitReplica(t *testing.T, master, sentinel *storetest.Redis) {
	t.Helper()
	m, s := redis.NewClient(&redis.Options{Addr: master.Addr}), redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr})
	defer m.Close()
	defer s.Close()
	await(t, "the replica", func() bool {
		info, err := m.Info(t.Context(), "replication").Result()
		known, err2 := s.Replicas(t.Context(), "main").Result()
		return err == nil && err2 == nil && strings.Contains(info, "state=online") && len(known) == 1 && m.Wait(t.Context(), 1, time.Second).Val() == 1
	})
}
