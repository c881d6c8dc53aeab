package peers

import (
	"context"
	"testing"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
)

func TestPopulateMakesActiveSessions(t *testing.T) {
	const n = 250
	ctx := context.Background()
	redis, err := StartRedis(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Stop)
	if err := populate(ctx, redis.Addr, n); err != nil {
		t.Fatal(err)
	}
	store, err := redisstore.New(redisstore.Config{Addresses: []string{redis.Addr}, Timeout: startTimeout, DialTimeout: startTimeout})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	q := sessions.Query{Org: "bench", Limit: 2 * n}
	page, err := store.List(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Sessions) != n {
		t.Fatalf("%d sessions, want %d", len(page.Sessions), n)
	}
	for _, s := range page.Sessions {
		bound, err := store.Bound(ctx, s.ID)
		if err != nil || s.State != sessions.Active || len(bound) != 1 {
			t.Fatalf("session %s: state %s, %d bound, %v", s.ID, s.State, len(bound), err)
		}
	}
}
