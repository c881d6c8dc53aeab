package redisstore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// A server that hangs, and one that is gone, answer ErrUnavailable soon.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	made := create(t, open(t, redisstore.Config{Addresses: []string{server.Addr}}), newSession(t, time.Now(), "a"), "")
	s := open(t, redisstore.Config{Addresses: []string{server.Addr}, Timeout: shipped})
	faults := []struct {
		name  string
		begin func()
	}{
		{"hung", func() { signal(t, server, syscall.SIGSTOP) }},
		{"gone", server.Kill},
	}
	for _, fault := range faults {
		fault.begin()
		calls := map[string]func(context.Context) error{
			"Get":   func(ctx context.Context) error { _, err := s.Get(ctx, made.ID); return err },
			"Bound": func(ctx context.Context) error { _, err := s.Bound(ctx, made.ID); return err },
			"Bind":  func(ctx context.Context) error { return s.Bind(ctx, made.ID, sessions.SparkID(uuid.NewString())) },
			"Create": func(ctx context.Context) error {
				_, err := s.Create(ctx, newSession(t, time.Now(), "b"), "")
				return err
			},
			"List": func(ctx context.Context) error { _, err := s.List(ctx, sessions.Query{Org: org, Limit: 1}); return err },
			"Close": func(ctx context.Context) error {
				_, err := s.Transition(ctx, made.ID, sessions.CloseAt(time.Now(), ""))
				return err
			},
			"Watch": func(ctx context.Context) error { return s.Watch(ctx, func() {}, func(sessions.Change) {}) },
			"Check": s.Check,
		}
		for name, call := range calls {
			stalls, began := storetest.MeterStalls(t), time.Now()
			if err := call(t.Context()); !errors.Is(err, sessions.ErrUnavailable) {
				t.Errorf("%s, redis %s: %v", name, fault.name, err)
			}
			if took, stall := time.Since(began), stalls.Longest(); took > 4*time.Second+stall {
				t.Errorf("%s, redis %s: took %s, of which the machine stood still for %s", name, fault.name, took, stall)
			}
		}
	}
}

// One node of a Cluster is gone: what the others have is read all the same.
func TestGetBesideANodeThatIsGone(t *testing.T) {
	t.Parallel()
	cluster := storetest.StartRedisCluster(t, 3)
	s := open(t, redisstore.Config{Addresses: cluster.Addrs, Cluster: true, Timeout: 2 * time.Second})
	var ids, want []sessions.ID
	for range 12 {
		ids = append(ids, create(t, s, newSession(t, time.Now(), uuid.NewString()[:8]), "").ID)
	}
	node := func(id sessions.ID) int { return cluster.Node("sconce:s:{" + string(id) + "}") }
	gone := node(ids[0])
	for _, id := range ids {
		if node(id) != gone {
			want = append(want, id)
		}
	}
	if len(want) == 0 {
		t.Fatal("all are on one node")
	}
	cluster.Kill(gone)
	found, err := s.Get(t.Context(), ids...)
	if !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	var got []sessions.ID
	for _, one := range found {
		got = append(got, one.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	uses := append(slices.Repeat([]sessions.Use{{ID: ids[0]}}, 300), sessions.Use{ID: want[0], Running: []string{"op"}})
	uses[10].ID = want[0] // among the first that are told at once
	if _, err := s.Touch(t.Context(), uses); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("touch: %v", err)
	}
	if n, err := s.Running(t.Context(), want[0]); n != 1 || err != nil {
		t.Errorf("behind those whose node is gone %d operations were told of (%v), want 1", n, err)
	}
}

func signal(t *testing.T, server *storetest.Redis, s syscall.Signal) {
	t.Helper()
	if err := server.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// A context's deadline counts, also against a server that hangs.
func TestDeadline(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	s := open(t, redisstore.Config{Addresses: []string{server.Addr}, Timeout: time.Minute})
	create(t, s, newSession(t, time.Now(), "a"), "")
	signal(t, server, syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	stalls, began := storetest.MeterStalls(t), time.Now()
	if err := s.Ping(ctx); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	if took, stall := time.Since(began), stalls.Longest(); took > 2*time.Second+stall {
		t.Errorf("a deadline of 100 ms took %s, of which the machine stood still for %s", took, stall)
	}
}

// A subscription whose server hangs is noticed although nothing is closed.
func TestWatchNoticesAHungServer(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	s := open(t, redisstore.Config{Addresses: []string{server.Addr}, Timeout: shipped})
	stalls, began := storetest.MeterStalls(t), time.Now()
	err := s.Watch(t.Context(), func() { signal(t, server, syscall.SIGSTOP) }, func(sessions.Change) {})
	if !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	if took, stall := time.Since(began), stalls.Longest(); took > 10*time.Second+stall {
		t.Errorf("took %s, of which the machine stood still for %s", took, stall)
	}
}

// A quiet subscription is asked from time to time, and lives.
func TestWatchOutlivesSilence(t *testing.T) {
	t.Parallel()
	s := open(t, redisstore.Config{Addresses: []string{storetest.StartRedis(t).Addr}})
	ctx, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(4*time.Second, cancel).Stop()
	if err := s.Watch(ctx, func() {}, func(sessions.Change) {}); !errors.Is(err, context.Canceled) || errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

func TestCheckRefusesEviction(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t, "--maxmemory-policy", "allkeys-lru")
	s := open(t, redisstore.Config{Addresses: []string{server.Addr}})
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "noeviction") {
		t.Errorf("error %v", err)
	}
	good := open(t, redisstore.Config{Addresses: []string{storetest.StartRedis(t).Addr}})
	if err := good.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]redisstore.Config{
		"no address":           {},
		"cluster and sentinel": {Addresses: []string{"a:1"}, Cluster: true, Master: "m"},
		"cluster and database": {Addresses: []string{"a:1"}, Cluster: true, Database: 1},
	} {
		if _, err := redisstore.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
