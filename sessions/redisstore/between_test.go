package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
)

// between does something before or after what a Store asks of Redis.
type between struct {
	before func(redis.Cmder)
	after  func([]redis.Cmder) error
}

func (b between) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b between) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if b.before != nil {
			b.before(cmd)
		}
		return next(ctx, cmd)
	}
}

func (b between) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if b.after != nil {
			err = b.after(cmds)
		}
		return err
	}
}

func openAt(t *testing.T, addr string) *Store {
	t.Helper()
	s, err := New(Config{Addresses: []string{addr}, MaxOwnedEngines: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// putUp launches an engine as a waker does.
func putUp(t *testing.T, s *Store, key sessions.EngineKey, lease string) {
	t.Helper()
	place := sessions.Place{Org: "acme", Owner: "ann", Lease: lease}
	if mine, err := s.LeaseEngine(t.Context(), key, lease, time.Minute); err != nil || !mine {
		t.Fatal(mine, err)
	}
	if err := s.TakePlace(t.Context(), key, place); err != nil {
		t.Fatal(err)
	}
	err := s.PutEngine(t.Context(), sessions.EngineRecord{
		Key: key, Cluster: "c", Instance: sessions.Instance{ID: "engine-" + lease}, Place: place, Members: map[sessions.ID]uint64{"a": 1},
	}, lease)
	if err == nil {
		err = s.UnleaseEngine(t.Context(), key, lease)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// An engine that is put up while the key of the one before is taken out of the set
// is in it: who is not gets stopped as one without a record.
func TestEnginesKeepsWhatIsPutMeanwhile(t *testing.T) {
	server := miniredis.RunT(t)
	s, other := openAt(t, server.Addr()), openAt(t, server.Addr())
	const key = sessions.EngineKey("session:a")
	putUp(t, other, key, "1")
	if in, err := other.LeaveEngine(t.Context(), key, "a", 1); err != nil || in == nil {
		t.Fatal(in, err)
	}
	var once sync.Once
	s.rdb.AddHook(between{before: func(cmd redis.Cmder) {
		if cmd.Name() == "srem" {
			once.Do(func() { putUp(t, other, key, "2") })
		}
	}})
	if up, err := s.Engines(t.Context()); err != nil || len(up) != 0 {
		t.Fatal(up, err)
	}
	if up, err := other.Engines(t.Context()); err != nil || len(up) != 1 || up[0].ID != "engine-2" {
		t.Errorf("up are %v, %v", up, err)
	}
	// And what is down for good is in it no more.
	if in, err := other.LeaveEngine(t.Context(), key, "a", 1); err != nil || in == nil {
		t.Fatal(in, err)
	}
	if up, err := s.Engines(t.Context()); err != nil || len(up) != 0 {
		t.Fatal(up, err)
	}
	if server.Exists(s.keys.engines()) {
		t.Error("the key of an engine that is down stays")
	}
}

// A place of which it cannot be told whether it counts counts: of a Redis Cluster one
// node may be away, while another says that it has no such key.
func TestPlacesOfANodeThatIsAway(t *testing.T) {
	server := miniredis.RunT(t)
	s := openAt(t, server.Addr())
	putUp(t, s, "session:a", "1")
	putUp(t, s, "session:b", "2")
	away := errors.New("connection refused")
	s.rdb.AddHook(between{after: func(cmds []redis.Cmder) (first error) {
		for i, cmd := range cmds {
			if text, ok := cmd.(*redis.StringCmd); ok && i > 0 && strings.Contains(text.String(), "session:") {
				text.SetVal("")
				text.SetErr(away)
			}
			if first == nil {
				first = cmd.Err()
			}
		}
		return first
	}})
	place := sessions.Place{Org: "acme", Owner: "ann", Lease: "3"}
	if err := s.TakePlace(t.Context(), "session:c", place); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("a third place of two: %v", err)
	}
	if left, err := server.SMembers(s.keys.ownerEngines("acme", "ann")); len(left) != 2 || err != nil {
		t.Errorf("places that are left: %v, %v", left, err)
	}
}

// A server that does not let its settings be read passes; one that goes away meanwhile
// has not said so.
func TestCheckOfWhatDoesNotTell(t *testing.T) {
	server := miniredis.RunT(t) // it knows no CONFIG
	s := openAt(t, server.Addr())
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("it does not tell: %v", err)
	}
	s.rdb.AddHook(between{before: func(cmd redis.Cmder) {
		if cmd.Name() == "config" {
			server.Close()
		}
	}})
	if err := s.Check(t.Context()); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("it goes away: %v", err)
	}
}

// What is only to be looked at is nothing that a replica of before finds: it would close it.
func TestLooksAreNoDeadlines(t *testing.T) {
	server := miniredis.RunT(t)
	s := openAt(t, server.Addr())
	now := time.Now()
	create := func(age time.Duration) sessions.ID {
		t.Helper()
		id, err := sessions.NewID(now, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Create(t.Context(), sessions.Session{ID: id, Owner: "ann", Org: "acme", Cluster: "c", State: sessions.Pending, CreatedAt: now, MaxAge: age}, "")
		if err == nil {
			err = s.SetDue(t.Context(), id, now.Add(time.Hour))
		}
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	create(0)
	aged := create(24 * time.Hour)
	if due, err := server.ZMembers("sconce:due"); err != nil || len(due) != 1 || due[0] != string(aged) {
		t.Errorf("by the end of their age: %v, %v", due, err)
	}
	if at, err := server.ZScore("sconce:due", string(aged)); err != nil || int64(at) != now.Add(24*time.Hour).UnixMilli() {
		t.Errorf("its age ends at %v, %v", at, err)
	}
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{30 * time.Minute, 0}, {2 * time.Hour, 2}, {25 * time.Hour, 2}} {
		got, err := s.TakeDue(t.Context(), now.Add(c.after), now.Add(c.after), 10)
		if err != nil || len(got) != c.want {
			t.Errorf("after %s: %v, %v", c.after, got, err)
		}
	}
}

// A close that is cut short, wherever, leaves the deadline of the session's age, by which
// it is finished.
func TestCloseCutShortIsDue(t *testing.T) {
	server := miniredis.RunT(t)
	s := openAt(t, server.Addr())
	now := time.Now()
	id, err := sessions.NewID(now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Create(t.Context(), sessions.Session{
		ID: id, Name: "a", Owner: "ann", Org: "acme", Cluster: "c", State: sessions.Pending, CreatedAt: now, MaxAge: time.Minute,
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetDue(t.Context(), id, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(t.Context(), id, sessions.SparkID(uuid.NewString())); err != nil {
		t.Fatal(err)
	}
	due := func() int {
		t.Helper()
		list, err := s.TakeDue(t.Context(), now.Add(time.Hour), now, 1)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	cut := true
	s.rdb.AddHook(between{before: func(cmd redis.Cmder) {
		if args := cmd.Args(); cut && len(args) > 1 && args[1] == unclaim.Hash() {
			server.SetError("ERR gone")
		}
	}})
	if closed, err := s.Transition(t.Context(), id, sessions.CloseAt(now, "")); err == nil || closed.State != sessions.Closed {
		t.Errorf("closed is %+v, %v", closed, err)
	}
	server.SetError("")
	if due() != 1 {
		t.Error("nobody will finish it")
	}
	cut = false
	if _, err := s.Transition(t.Context(), id, sessions.CloseAt(now, "")); err != nil || due() != 0 {
		t.Errorf("finished: %v, and due", err)
	}
}
