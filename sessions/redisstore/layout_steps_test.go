package redisstore_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
)

// The steps of another version are neither done twice nor denied: one is known by its
// name, with a second as this version writes it or without, in each record that there is.
func TestStepsOfOldLayouts(t *testing.T) {
	t.Parallel()
	for _, file := range recorded(t, newestLayout)[1:] { // the first has no names
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			w, raw := tellerOn(t)
			load(t, raw, file)
			key := "sconce:s:{" + string(layoutID(3)) + "}"
			steps, err := raw.HGet(w.ctx, key, "steps").Result()
			w.ok(err)
			// Nobody asks for a step that is older than a minute.
			steps = regexp.MustCompile(`@\d+`).ReplaceAllString(steps, fmt.Sprintf("@%d", time.Now().Unix()))
			w.ok(raw.HSet(w.ctx, key, "steps", steps).Err())
			names := regexp.MustCompile(`[A-Z2-7]{10}`).FindAllString(steps, -1)
			if len(names) != 2 {
				t.Fatalf("steps %q", steps)
			}
			wake := sessions.Transition{From: sessions.Idle, Generation: 1, To: sessions.Active, At: layoutNow}
			if _, err := named(w, raw, names[0], "").Transition(w.ctx, layoutID(3), wake); err != nil {
				t.Errorf("the last step, asked for again: %v", err)
			}
			if now, err := w.Transition(w.ctx, layoutID(3), wake); err != nil || now.Generation != 2 {
				t.Errorf("woken: %+v, %v", now, err)
			}
			for _, name := range names {
				if _, err := named(w, raw, name, "").Transition(w.ctx, layoutID(3), wake); !errors.Is(err, sessions.ErrUnavailable) {
					t.Errorf("a step with another behind it: %v", err)
				}
			}
		})
	}
}

// Two versions take turns with one session, the other by its own script: both know the
// last steps of either.
func TestStepsOfTwoVersions(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("testdata/transition-3.lua")
	if err != nil {
		t.Fatal(err)
	}
	w, raw := tellerOn(t)
	w.create(1, "", "", nil)
	session := sessions.Session{State: sessions.Pending}
	step := func(s *redisstore.Store, now sessions.Session, to sessions.State) (sessions.Session, error) {
		return s.Transition(w.ctx, layoutID(1), sessions.Transition{From: now.State, Generation: now.Generation, To: to, At: layoutNow})
	}
	by := func(name string, old bool) *redisstore.Store {
		if old {
			return named(w, raw, name, string(script))
		}
		return named(w, raw, name, "")
	}
	to := map[sessions.State]sessions.State{sessions.Pending: sessions.Active, sessions.Active: sessions.Idle, sessions.Idle: sessions.Active}
	var before sessions.Session
	for n := range 12 {
		name := fmt.Sprintf("STEP%06d", n)
		old := n/2%2 == 1 // each after itself, and after the other
		before = session
		if session, err = step(by(name, old), session, to[session.State]); err != nil {
			t.Fatal(err)
		}
		if again, err := step(by(name, old), before, session.State); err != nil || again.Revision != session.Revision {
			t.Errorf("%s asked for again: %+v, %v, want revision %d", name, again, err, session.Revision)
		}
		if n == 0 {
			continue
		}
		last, old := fmt.Sprintf("STEP%06d", n-1), (n-1)/2%2 == 1
		if _, err := step(by(last, old), before, session.State); !errors.Is(err, sessions.ErrUnavailable) || !strings.Contains(err.Error(), "the answer to a step") {
			t.Errorf("%s with %s behind it: %v", last, name, err)
		}
	}
}

// named is a store whose steps have this name, and are done by this script.
func named(w *teller, raw *redis.Client, name, script string) *redisstore.Store {
	w.t.Helper()
	s := open(w.t, redisstore.Config{Addresses: []string{raw.Options().Addr}})
	w.ok(redisstore.NameSteps(w.ctx, s, name, script))
	return s
}
