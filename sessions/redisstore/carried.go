package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
)

// The fields of carried's hash: "g" is the generation that it is about, each Spark
// id what became of it as JSON, and "t <spark>" is there once its client was told.

// setCarried replaces what an earlier generation began with.
//
//	KEYS[1] record     KEYS[2] carried
//	ARGV[1] generation ARGV[2] and on: Spark id, JSON ...
//
// Returns "done", "missing" or "closed".
var setCarried = redis.NewScript(whileOpen + `
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'g', ARGV[1])
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 'done'
`)

// takeLoss says who is to tell of a loss.
//
//	KEYS[1] carried    ARGV[1] Spark id    ARGV[2] generation    ARGV[3] who asks
//
// Returns 1 to the first who asks, also where its answer was lost and it asks again; else 0.
var takeLoss = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'g') ~= ARGV[2] then return 0 end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local told = 't ' .. ARGV[1]
if redis.call('HGET', KEYS[1], told) == ARGV[3] then return 1 end
return redis.call('HSETNX', KEYS[1], told, ARGV[3])
`)

// SetCarried implements sessions.CarriedStore.
func (s *Store) SetCarried(ctx context.Context, id sessions.ID, generation uint64, carried map[sessions.SparkID]sessions.Carried) error {
	if !id.Valid() {
		return sessions.ErrNotFound
	}
	args := []any{strconv.FormatUint(generation, 10)}
	for spark, c := range carried {
		text, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("encode what was carried: %w", err)
		}
		args = append(args, string(spark), text)
	}
	got, err := setCarried.Run(ctx, s.rdb, []string{s.keys.session(id), s.keys.carried(id)}, args...).Text()
	if err != nil {
		return unavailable(err)
	}
	return journalAnswer(got)
}

// Carried implements sessions.CarriedStore.
func (s *Store) Carried(ctx context.Context, id sessions.ID, generation uint64) (map[sessions.SparkID]sessions.Carried, error) {
	fields, err := s.rdb.HGetAll(ctx, s.keys.carried(id)).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	found := map[sessions.SparkID]sessions.Carried{}
	if fields["g"] != strconv.FormatUint(generation, 10) {
		return found, nil
	}
	for field, value := range fields {
		if field == "g" || strings.HasPrefix(field, "t ") {
			continue
		}
		var c sessions.Carried
		if err := json.Unmarshal([]byte(value), &c); err != nil {
			return nil, fmt.Errorf("what session %s carried: %w", id, err)
		}
		found[sessions.SparkID(field)] = c
	}
	return found, nil
}

// TakeLoss implements sessions.CarriedStore.
func (s *Store) TakeLoss(ctx context.Context, id sessions.ID, spark sessions.SparkID, generation uint64) (bool, error) {
	got, err := takeLoss.Run(ctx, s.rdb, []string{s.keys.carried(id)}, string(spark), strconv.FormatUint(generation, 10), rand.Text()).Int()
	if err != nil {
		return false, unavailable(err)
	}
	return got == 1, nil
}
