package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
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

// A journal that is dropped leaves nothing but the number that was given out last, and
// what others have; also where an older replica took its entries out and left the rest.
func TestDropJournalLeavesNothing(t *testing.T) {
	t.Parallel()
	s, raw, id, sparks, key := journalOn(t, redisstore.Config{MaxEntries: 4096})
	for _, spark := range sparks[:2] {
		for n := range 600 {
			seq, err := addBytes(t, s, id, spark, []string{"", "k" + strconv.Itoa(n)}[n%2], 100)
			if err == nil && n%3 > 0 {
				err = s.SettleEntry(t.Context(), id, spark, seq, true)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	left := func() (fields, pieces int) {
		t.Helper()
		for _, field := range raw.HKeys(t.Context(), key).Val() {
			if strings.HasPrefix(field, string(sparks[0])+" ") {
				fields++
			}
		}
		for _, piece := range raw.HKeys(t.Context(), strings.TrimSuffix(key, "journal")+"parts").Val() {
			if strings.HasPrefix(piece, string(sparks[0])+" ") {
				pieces++
			}
		}
		return fields, pieces
	}
	drop := func() {
		t.Helper()
		if err := s.DropJournal(t.Context(), id, sparks[0]); err != nil {
			t.Fatal(err)
		}
		if fields, pieces := left(); fields != 1 || pieces != 0 {
			t.Errorf("%d fields and %d pieces are left", fields, pieces)
		}
	}
	drop()
	if all, err := s.Entries(t.Context(), id); err != nil || len(all[sparks[1]]) != 600 {
		t.Errorf("the other has %d entries, %v", len(all[sparks[1]]), err)
	}
	if spent := raw.HGet(t.Context(), key, "bytes").Val(); spent != strconv.Itoa(600*(100+512)) {
		t.Errorf("what is left is counted as %s", spent)
	}
	if seq, err := addBytes(t, s, id, sparks[0], "", 1); err != nil || seq != 601 {
		t.Errorf("the next is number %d, %v", seq, err)
	}
	raw.HDel(t.Context(), key, string(sparks[0])+" e "+fmt.Sprintf("%016x", 601))
	raw.HSet(t.Context(), key, string(sparks[0])+" count", 0, string(sparks[0])+" s old", "0 0000000000000001")
	raw.HDel(t.Context(), strings.TrimSuffix(key, "journal")+"parts", string(sparks[0])+" "+fmt.Sprintf("%016x", 601)+" 0")
	drop()
}

// Redis is asked for a little at a time, and nothing where there is no journal.
func TestDropJournalIsCheap(t *testing.T) {
	t.Parallel()
	s, raw, id, sparks, key := journalOn(t, redisstore.Config{MaxEntries: 4096})
	for range 3_000 {
		if _, err := addBytes(t, s, id, sparks[0], "", 10); err != nil {
			t.Fatal(err)
		}
	}
	raw.ConfigResetStat(t.Context())
	for range 100 {
		if err := s.DropJournal(t.Context(), id, sparks[1]); err != nil {
			t.Fatal(err)
		}
	}
	calls := commands(t, raw)
	if calls["hexists"] != 100 || calls["hscan"]+calls["hgetall"]+calls["evalsha"] != 0 {
		t.Errorf("of no journal: %v", calls)
	}
	raw.ConfigResetStat(t.Context())
	if err := s.DropJournal(t.Context(), id, sparks[0]); err != nil {
		t.Fatal(err)
	}
	if calls = commands(t, raw); calls["hgetall"] != 0 || calls["hscan"] < 3 || calls["evalsha"] > 10 {
		t.Errorf("of 3,000 entries: %v", calls)
	}
	if n := raw.HLen(t.Context(), key).Val(); n != 3 {
		t.Errorf("%d fields are left", n)
	}
}

// commands is how often Redis was told each since its counts were reset.
func commands(t *testing.T, raw *redis.Client) map[string]int {
	t.Helper()
	text, err := raw.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for _, m := range regexp.MustCompile(`cmdstat_(\w+):calls=(\d+)`).FindAllStringSubmatch(text, -1) {
		calls[m[1]], _ = strconv.Atoi(m[2])
	}
	return calls
}
