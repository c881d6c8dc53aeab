package redisstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// journalOn is a registry on a Redis of its own, with a session, some Spark sessions, and
// the key of their journals.
func journalOn(t *testing.T, config redisstore.Config) (s *redisstore.Store, raw *redis.Client, id sessions.ID, sparks []sessions.SparkID, key string) {
	t.Helper()
	server := storetest.StartRedis(t)
	raw = redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { raw.Close() })
	config.Addresses, config.Timeout = []string{server.Addr}, patience
	s = open(t, config)
	made, err := s.Create(t.Context(), newSession(t, time.Now(), "mine"), "")
	if err != nil {
		t.Fatal(err)
	}
	for range storetest.MaxBound {
		spark := sessions.SparkID(uuid.NewString())
		if err := s.Bind(t.Context(), made.ID, spark); err != nil {
			t.Fatal(err)
		}
		sparks = append(sparks, spark)
	}
	return s, raw, made.ID, sparks, "sconce:s:{" + string(made.ID) + "}:journal"
}

func addBytes(t *testing.T, s *redisstore.Store, id sessions.ID, spark sessions.SparkID, slot string, size int) (uint64, error) {
	t.Helper()
	seq, err := s.NextEntry(t.Context(), id, spark)
	if err != nil {
		t.Fatal(err)
	}
	return seq, s.AddEntry(t.Context(), id, spark, sessions.SealedEntry{Seq: seq, Slot: slot, Body: make([]byte, size)})
}

// A replica of before the journals of a session were counted together keeps no count of
// them, or lets one go wrong that is there: within a minute it is right again.
func TestJournalsAreCountedAnew(t *testing.T) {
	t.Parallel()
	const most = storetest.MaxJournal - 1<<10
	for _, c := range []struct {
		name    string
		spoil   func(ctx context.Context, raw *redis.Client, key string)
		journal int // how many Spark sessions have a full one
		full    bool
	}{
		{"no count", func(ctx context.Context, raw *redis.Client, key string) { raw.HDel(ctx, key, "bytes", "counted") }, 3, true},
		{"too little", func(ctx context.Context, raw *redis.Client, key string) {
			raw.HSet(ctx, key, "bytes", -5, "counted", time.Now().Unix()-61)
		}, 3, true},
		{"too much", func(ctx context.Context, raw *redis.Client, key string) {
			raw.HSet(ctx, key, "bytes", 1<<40, "counted", time.Now().Unix()-61)
		}, 2, false},
		{"a clock that went back", func(ctx context.Context, raw *redis.Client, key string) {
			raw.HSet(ctx, key, "bytes", 1<<40, "counted", time.Now().Unix()+3600)
		}, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, raw, id, sparks, key := journalOn(t, redisstore.Config{})
			for _, spark := range sparks[:c.journal] {
				if _, err := addBytes(t, s, id, spark, "", most); err != nil {
					t.Fatal(err)
				}
			}
			c.spoil(t.Context(), raw, key)
			if _, err := addBytes(t, s, id, sparks[2], "", 512); err != nil {
				t.Errorf("what fits: %v", err)
			}
			if _, err := addBytes(t, s, id, sparks[1], "", 900); errors.Is(err, sessions.ErrJournalFull) != c.full {
				t.Errorf("more: %v", err)
			}
		})
	}
}
