package redisstore_test

import (
	"strings"
	"syscall"
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
	way := redisstore.Config{Addresses: []string{sentinel.Addr}, Master: "main"}
	r, beside := startReplica(t, way), open(t, way)
	known, unknown := activeSession(t, beside), activeSession(t, beside)
	r.use(t, known.ID)
	await(t, "the replica", func() bool { return master.Followed(t.Context(), sentinel) })

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

// A close is acknowledged when the replica has it: the master may die then.
func TestCloseOutlivesAFailover(t *testing.T) {
	t.Parallel()
	master := storetest.StartRedis(t)
	replica := storetest.StartRedis(t, "--replicaof", "127.0.0.1 "+master.Port())
	sentinel := storetest.StartSentinel(t, master)
	s := open(t, redisstore.Config{Addresses: []string{sentinel.Addr}, Master: "main"})
	made := activeSession(t, s)
	await(t, "the replica", func() bool { return master.Followed(t.Context(), sentinel) })
	m := redis.NewClient(&redis.Options{Addr: master.Addr})
	defer m.Close()

	signal(t, replica, syscall.SIGSTOP)
	done := make(chan error, 1)
	go func() {
		_, err := s.Transition(t.Context(), made.ID, sessions.CloseAt(time.Now(), ""))
		done <- err
	}()
	await(t, "the close waits for the replica", func() bool {
		info, err := m.Info(t.Context(), "clients").Result()
		return err == nil && strings.Contains(info, "blocked_clients:1")
	})
	select {
	case err := <-done:
		t.Errorf("acknowledged before the replica had it: %v", err)
	default:
	}
	signal(t, replica, syscall.SIGCONT)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	await(t, "the replica", func() bool { return master.Followed(t.Context(), sentinel) })
	master.Kill()
	await(t, "the session on the new master", func() bool {
		got, err := s.Get(t.Context(), made.ID)
		if err == nil && (len(got) != 1 || got[0].State != sessions.Closed) {
			t.Fatalf("after the failover: %+v", got)
		}
		return err == nil
	})
}

// Where no replica has it in time, the session is closed all the same.
func TestCloseWithoutAReplica(t *testing.T) {
	t.Parallel()
	cluster := storetest.StartRedisCluster(t, 3)
	s := open(t, redisstore.Config{Addresses: cluster.Addrs, Cluster: true, Timeout: 2 * time.Second}) // it waits for a replica half as long
	made := activeSession(t, s)
	closed, err := s.Transition(t.Context(), made.ID, sessions.CloseAt(time.Now(), ""))
	if err != nil || closed.State != sessions.Closed {
		t.Errorf("%+v, %v", closed, err)
	}
}
