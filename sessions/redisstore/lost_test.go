package redisstore_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// lossy is a way to a Redis that, armed, loses the next answer, after what comes
// meanwhile.
type lossy struct {
	*storetest.Way
	armed     atomic.Bool
	meanwhile func()
}

func newLossy(t *testing.T, server string) *lossy {
	t.Helper()
	l := &lossy{}
	l.Way = storetest.StartWay(t, server, func() bool {
		if !l.armed.CompareAndSwap(true, false) {
			return true
		}
		if l.meanwhile != nil {
			l.meanwhile()
		}
		return false
	})
	return l
}

// What was done and not heard of is neither done again nor denied: the client asks
// again, and hears what it would have heard.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	l := newLossy(t, server.Addr)
	s := open(t, redisstore.Config{Addresses: []string{l.Addr}, PoolSize: 1, Timeout: 10 * time.Second})
	spark := sessions.SparkID(uuid.NewString())
	type life struct {
		made sessions.Session
		key  sessions.EngineKey
		seq  uint64
	}
	steps := []struct {
		name string
		do   func(w *life) error
	}{
		{"Create", func(w *life) (err error) {
			w.made, err = s.Create(t.Context(), newSession(t, time.Now(), "n"+uuid.NewString()[:8]), uuid.NewString())
			return err
		}},
		{"Transition", func(w *life) (err error) {
			w.made, err = s.Transition(t.Context(), w.made.ID, sessions.Transition{From: w.made.State, Generation: w.made.Generation, To: sessions.Active, At: time.Now()})
			return err
		}},
		{"LeaseEngine", func(w *life) error {
			w.key = sessions.EngineKey("session:" + string(w.made.ID))
			mine, err := s.LeaseEngine(t.Context(), w.key, "me", time.Minute)
			if !mine && err == nil {
				t.Error("LeaseEngine: the lease is not ours")
			}
			return err
		}},
		{"PutEngine", func(w *life) error {
			return s.PutEngine(t.Context(), sessions.EngineRecord{
				Key: w.key, Cluster: "c", Instance: sessions.Instance{ID: string(w.made.ID)}, Members: map[sessions.ID]uint64{w.made.ID: 1},
			}, "me")
		}},
		{"Bind", func(w *life) error { return s.Bind(t.Context(), w.made.ID, sessions.SparkID(uuid.NewString())) }},
		{"AddToken", func(w *life) error {
			now := time.Now()
			for i := range storetest.MaxTokens - 1 {
				if tokens, err := s.Tokens(t.Context(), w.made.ID); err != nil || len(tokens) > i {
					continue
				}
				if err := s.AddToken(t.Context(), w.made, sessions.Token{ID: uuid.NewString(), CreatedAt: now, ExpiresAt: now.Add(time.Hour)}, now); err != nil {
					return err
				}
			}
			return nil
		}},
		{"AddToken, the last", func(w *life) error {
			now := time.Now()
			return s.AddToken(t.Context(), w.made, sessions.Token{ID: uuid.NewString(), CreatedAt: now, ExpiresAt: now.Add(time.Hour)}, now)
		}},
		{"SetCarried", func(w *life) error {
			return s.SetCarried(t.Context(), w.made.ID, 1, map[sessions.SparkID]sessions.Carried{spark: {Notable: true}})
		}},
		{"TakeLoss", func(w *life) error {
			first, err := s.TakeLoss(t.Context(), w.made.ID, spark, 1)
			if !first && err == nil {
				t.Error("TakeLoss: nobody tells of the loss")
			}
			return err
		}},
		{"NextEntry", func(w *life) (err error) {
			w.seq, err = s.NextEntry(t.Context(), w.made.ID, spark)
			return err
		}},
		{"Close", func(w *life) (err error) {
			w.made, err = s.Transition(t.Context(), w.made.ID, sessions.CloseAt(time.Now(), "enough"))
			return err
		}},
	}
	var known life // Redis learns the scripts, and the pool has its connection
	for _, step := range steps {
		if err := step.do(&known); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
	var w life
	for _, step := range steps {
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.armed.Store(true)
		if err := step.do(&w); err != nil {
			t.Errorf("%s, its answer lost: %v", step.name, err)
		}
		if l.armed.Load() {
			t.Fatalf("%s: no answer was lost", step.name)
		}
	}
	if w.made.State != sessions.Closed || w.made.Generation != 1 {
		t.Errorf("in the end the session is %+v", w.made)
	}
}

// A step whose answer was lost is not denied when its caller asks again, however many
// have followed by then: nobody who did a step is told that he did not.
func TestLostAnswerOfABusySession(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	l := newLossy(t, server.Addr)
	other := open(t, redisstore.Config{Addresses: []string{server.Addr}})
	s := open(t, redisstore.Config{Addresses: []string{l.Addr}, PoolSize: 1, Timeout: 10 * time.Second})
	made, err := s.Create(t.Context(), newSession(t, time.Now(), "busy"), "")
	if err != nil {
		t.Fatal(err)
	}
	step := func(s *redisstore.Store, now sessions.Session, to sessions.State) (sessions.Session, error) {
		return s.Transition(t.Context(), now.ID, sessions.Transition{From: now.State, Generation: now.Generation, To: to, At: time.Now()})
	}
	now, err := step(s, made, sessions.Active) // Redis learns the script
	if err != nil {
		t.Fatal(err)
	}
	followed := make(chan error, 1)
	l.meanwhile = func() {
		now, err := sessions.Session{ID: now.ID, State: sessions.Idle, Generation: now.Generation}, error(nil)
		for n := 0; n < 30 && err == nil; n++ {
			to := sessions.Active
			if n%2 == 1 {
				to = sessions.Idle
			}
			now, err = step(other, now, to)
		}
		followed <- err
	}
	l.armed.Store(true)
	if _, err := step(s, now, sessions.Idle); !errors.Is(err, sessions.ErrUnavailable) || !strings.Contains(err.Error(), "the answer to a step") {
		t.Errorf("a step that was done, with thirty behind it: %v", err)
	}
	if l.armed.Load() {
		t.Fatal("no answer was lost")
	}
	if err := <-followed; err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer rdb.Close()
	names, err := rdb.HGet(t.Context(), "sconce:s:{"+string(now.ID)+"}", "steps").Result()
	if err != nil || len(strings.Fields(names)) != 32 {
		t.Errorf("the names of 32 steps: %d, %v", len(strings.Fields(names)), err)
	}
	// After a minute nobody asks again.
	old := regexp.MustCompile(`@\d+`).ReplaceAllString(names, fmt.Sprintf("@%d", time.Now().Add(-61*time.Second).Unix()))
	if err := rdb.HSet(t.Context(), "sconce:s:{"+string(now.ID)+"}", "steps", old+" OFOLDTIMES").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Transition(t.Context(), now.ID, sessions.CloseAt(time.Now(), "enough")); err != nil {
		t.Fatal(err)
	}
	names, err = rdb.HGet(t.Context(), "sconce:s:{"+string(now.ID)+"}", "steps").Result()
	if len(strings.Fields(names)) != 2 || !strings.Contains(names, " OFOLDTIMES@") {
		t.Errorf("after a minute: %q, %v", names, err)
	}
}
