package peers

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
)

const (
	// writers is how many sessions are being made at the same time.
	writers = 32
	// perOwner is how many sessions one owner has.
	perOwner = 100
)

// populate makes n active sessions in the registry, each with one Spark session
// bound, by the registry's own code.
func populate(ctx context.Context, redis string, n int) error {
	store, err := redisstore.New(redisstore.Config{Addresses: []string{redis}, Timeout: 10 * time.Second, DialTimeout: 10 * time.Second})
	if err != nil {
		return err
	}
	defer store.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	for i := range n {
		g.Go(func() error { return addSession(ctx, store, fmt.Sprintf("owner-%d", i/perOwner)) })
	}
	return g.Wait()
}

func addSession(ctx context.Context, store *redisstore.Store, owner string) error {
	now := time.Now()
	id, err := sessions.NewID(now, rand.Reader)
	if err != nil {
		return err
	}
	_, err = store.Create(ctx, sessions.Session{
		ID: id, Owner: owner, Org: "bench", Cluster: "bench",
		State: sessions.Pending, CreatedAt: now, ChangedAt: now,
	}, "")
	if err != nil {
		return fmt.Errorf("make a session: %w", err)
	}
	_, err = store.Transition(ctx, id, sessions.Transition{From: sessions.Pending, To: sessions.Active, At: now})
	if err != nil {
		return fmt.Errorf("make it active: %w", err)
	}
	if err := store.Bind(ctx, id, sessions.SparkID(uuid.NewString())); err != nil {
		return fmt.Errorf("bind a Spark session: %w", err)
	}
	return nil
}
