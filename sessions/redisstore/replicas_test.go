package redisstore_test

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// replica is a resolver with a connection pool of its own, and the timeouts that are shipped.
type replica struct {
	*sessions.Resolver
	store *redisstore.Store
	ends  chan sessions.ID
}

func startReplica(t *testing.T, c redisstore.Config) *replica {
	t.Helper()
	c.Timeout = shipped
	r := &replica{store: open(t, c), ends: make(chan sessions.ID, 100)}
	clusters, err := sessions.NewClusters([]sessions.Cluster{{Name: "c", Address: "127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Resolver, err = sessions.NewResolver(sessions.ResolverConfig{
		Directory: r.store, Clusters: clusters, OnEnd: func(id sessions.ID, _ error) { r.ends <- id },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

func at(server *storetest.Redis) redisstore.Config {
	return redisstore.Config{Addresses: []string{server.Addr}}
}

// use looks a session up, which may take its time, and opens a stream on it.
func (r *replica) use(t *testing.T, id sessions.ID) (route *sessions.Route) {
	t.Helper()
	await(t, "the session", func() bool {
		var err error
		route, err = r.Lookup(t.Context(), id)
		return err == nil
	})
	route.StreamOpened()
	return route
}

// wantEnd waits for the end of a session, which has to come soon.
func (r *replica) wantEnd(t *testing.T, id sessions.ID, within time.Duration) {
	t.Helper()
	stalls, began := storetest.MeterStalls(t), time.Now()
	select {
	case got := <-r.ends:
		if got != id {
			t.Errorf("ended %s, want %s", got, id)
		}
	case <-time.After(patience):
		t.Fatalf("no end within %s", patience)
	}
	if took, stall := time.Since(began), stalls.Longest(); took > within+stall {
		t.Errorf("the end took %s, of which the machine stood still for %s; want %s", took, stall, within)
	}
}

func activeSession(t *testing.T, s *redisstore.Store) sessions.Session {
	t.Helper()
	made := create(t, s, newSession(t, time.Now(), ""), "")
	now, err := s.Transition(t.Context(), made.ID, sessions.Transition{From: sessions.Pending, To: sessions.Active, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// The promise: a close anywhere ends the streams on every replica within 2 s.
func TestCloseEndsStreamsOnEveryReplica(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	replicas := []*replica{startReplica(t, at(server)), startReplica(t, at(server)), startReplica(t, at(server))}
	beside := open(t, at(server))
	for range 3 {
		s := activeSession(t, beside)
		for _, r := range replicas {
			r.use(t, s.ID)
		}
		closeSession(t, beside, s.ID)
		for _, r := range replicas {
			r.wantEnd(t, s.ID, 2*time.Second)
			var err error
			await(t, "an answer after the close", func() bool {
				_, err = r.Lookup(t.Context(), s.ID)
				return !errors.Is(err, sessions.ErrUnavailable)
			})
			if !errors.Is(err, sessions.ErrClosed) {
				t.Errorf("lookup after the close: %v", err)
			}
		}
	}
}

// The same where no message ever arrives: the record is closed behind the back of
// the channel.
func TestCloseIsFoundWithoutPush(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	r := startReplica(t, at(server))
	s := activeSession(t, open(t, at(server)))
	r.use(t, s.ID)
	raw := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer raw.Close()
	record := "sconce:s:{" + string(s.ID) + "}"
	if err := raw.HSet(t.Context(), record, "state", "closed", "revision", s.Revision+1).Err(); err != nil {
		t.Fatal(err)
	}
	r.wantEnd(t, s.ID, 2*time.Second)
}

// Redis hangs: what is known goes on, what is not is refused soon, and no answer
// is a guess. When it is back, so is everything.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	r, beside := startReplica(t, at(server)), open(t, at(server))
	known, unknown := activeSession(t, beside), activeSession(t, beside)
	route := r.use(t, known.ID)
	signal(t, server, syscall.SIGSTOP)
	var took []time.Duration
	for range 20 {
		began := time.Now()
		got, err := r.Lookup(t.Context(), known.ID)
		if err != nil || got.Session.ID != known.ID {
			t.Fatalf("a known session: %v", err)
		}
		if _, err := r.Lookup(t.Context(), unknown.ID); !errors.Is(err, sessions.ErrUnavailable) {
			t.Fatalf("an unknown session: %v", err)
		}
		if err := r.Bind(t.Context(), route, sessions.SparkID(uuid.NewString())); !errors.Is(err, sessions.ErrUnavailable) {
			t.Fatalf("bind: %v", err)
		}
		took = append(took, time.Since(began))
	}
	if slices.Sort(took); took[len(took)/2] > 3*time.Second {
		t.Errorf("they took %s, in the median more than 3 s", took)
	}
	signal(t, server, syscall.SIGCONT)
	await(t, "the unknown session", func() bool { _, err := r.Lookup(t.Context(), unknown.ID); return err == nil })
	closeSession(t, beside, known.ID)
	r.wantEnd(t, known.ID, 2*time.Second)
}

// Redis dies and comes back empty: sessions that are known go on for a while, and
// nothing is made up about the others.
func TestRedisComesBackEmpty(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	r, beside := startReplica(t, at(server)), open(t, at(server))
	known, unknown := activeSession(t, beside), activeSession(t, beside)
	r.use(t, known.ID)
	server.Kill()
	if _, err := r.Lookup(t.Context(), unknown.ID); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("an unknown session, redis dead: %v", err)
	}
	storetest.StartRedisAt(t, server.Port())
	await(t, "an answer", func() bool {
		_, err := r.Lookup(t.Context(), unknown.ID)
		return errors.Is(err, sessions.ErrNotFound)
	})
	if _, err := r.Lookup(t.Context(), known.ID); err != nil {
		t.Errorf("a known session: %v", err)
	}
}

// await asks until it is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	const limit = 90 * time.Second
	deadline, tick := time.After(limit), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %s", what, limit)
		}
	}
}
