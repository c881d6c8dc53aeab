package sessions_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

func TestStreamsAreCounted(t *testing.T) {
	memory := storetest.NewMemory()
	r, s := newReplica(t, memory, nil), active(t, memory)
	route, err := r.Lookup(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	route.StreamOpened()
	route.StreamOpened()
	route.StreamEnded()
	r.streams(t, s.ID, 1)
	r.streams(t, newID(t), 0)
}

// What is open on another replica counts as it was some seconds ago, and for a quarter of
// a minute where that replica tells no more.
func TestStreamsOfAllReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory()
		shared := func(c *sessions.ResolverConfig) { c.Uses = memory }
		one, two, s := newReplica(t, memory, shared), newReplica(t, memory, shared), active(t, memory)
		two.run(t)
		route, err := one.Lookup(t.Context(), s.ID)
		if err != nil {
			t.Fatal(err)
		}
		beside, err := two.Lookup(t.Context(), s.ID)
		if err != nil {
			t.Fatal(err)
		}
		ctx, die := context.WithCancel(t.Context())
		dead := make(chan struct{})
		go func() {
			defer close(dead)
			_ = one.Run(ctx)
		}()
		route.StreamOpened()
		route.StreamOpened()
		beside.StreamOpened()
		time.Sleep(6 * time.Second)
		one.streams(t, s.ID, 3)
		two.streams(t, s.ID, 3)
		route.StreamEnded()
		one.streams(t, s.ID, 2)
		time.Sleep(6 * time.Second)
		two.streams(t, s.ID, 2)
		die()
		<-dead
		time.Sleep(10 * time.Second)
		two.streams(t, s.ID, 2)
		time.Sleep(10 * time.Second)
		two.streams(t, s.ID, 1)
		memory.Fail(sessions.ErrUnavailable)
		if n, err := two.Streams(t.Context(), s.ID); !errors.Is(err, sessions.ErrUnavailable) {
			t.Errorf("with the registry away: %d, %v", n, err)
		}
	})
}

// streams expects so many to be open.
func (r *replica) streams(t *testing.T, id sessions.ID, want int64) {
	t.Helper()
	if n, err := r.Streams(t.Context(), id); n != want || err != nil {
		t.Errorf("%d streams are open (%v), want %d", n, err, want)
	}
}
