package redisstore

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
)

// takeTurn gives somebody the turn to prepare a Spark session that is not bound.
//
//	KEYS[1] record     KEYS[2] the session's set of bound Spark ids    KEYS[3] turn
//	ARGV[1] Spark id   ARGV[2] how many ids the set may hold
//	ARGV[3] holder     ARGV[4] how long the turn lasts, ms
//
// Returns "mine", "taken", "over", "missing", "closed" or "full".
var takeTurn = redis.NewScript(`
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'missing' end
if state == 'closed' then return 'closed' end
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 'over' end
if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[2]) then return 'full' end
local holder = redis.call('GET', KEYS[3])
if holder and holder ~= ARGV[3] then return 'taken' end
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
return 'mine'
`)

// giveTurn ends a turn.
//
//	KEYS[1] turn       KEYS[2] the session's set of bound Spark ids
//	ARGV[1] holder     ARGV[2] Spark id
//
// Returns 1 if the holder had it and the Spark id is not bound, else 0.
var giveTurn = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1 - redis.call('SISMEMBER', KEYS[2], ARGV[2])
`)

// TakeTurn implements sessions.Turns.
func (s *Store) TakeTurn(ctx context.Context, id sessions.ID, spark sessions.SparkID, holder string, lease time.Duration) (sessions.Turn, error) {
	if !id.Valid() {
		return "", sessions.ErrNotFound
	}
	claimed, err := claim.Run(ctx, s.rdb, []string{s.keys.binding(spark)}, string(id)).Text()
	if err != nil {
		return "", unavailable(err)
	}
	if claimed == "foreign" {
		return "", sessions.ErrForeignSpark
	}
	keys := []string{s.keys.session(id), s.keys.bound(id), s.keys.turn(id, spark)}
	got, err := takeTurn.Run(ctx, s.rdb, keys, string(spark), s.maxBound, holder, lease.Milliseconds()).Text()
	if err != nil {
		return "", unavailable(err)
	}
	switch got {
	case "closed":
		return "", s.takeBack(ctx, id, spark, s.keep+bindingsOutlive, sessions.ErrClosed)
	case "missing":
		return "", s.takeBack(ctx, id, spark, 0, sessions.ErrNotFound)
	case "full":
		return "", s.takeBack(ctx, id, spark, 0, sessions.ErrTooManyBound)
	case string(sessions.TurnMine), string(sessions.TurnTaken), string(sessions.TurnOver):
		return sessions.Turn(got), nil
	}
	return "", fmt.Errorf("turn script: unknown answer %q", got)
}

// claimsKept is how long a claim outlives a turn that led to nothing: the next
// turn makes it last again.
const claimsKept = time.Hour

// GiveTurn implements sessions.Turns.
func (s *Store) GiveTurn(ctx context.Context, id sessions.ID, spark sessions.SparkID, holder string) error {
	if !id.Valid() {
		return sessions.ErrNotFound
	}
	keys := []string{s.keys.turn(id, spark), s.keys.bound(id)}
	unbound, err := giveTurn.Run(ctx, s.rdb, keys, holder, string(spark)).Int()
	if err != nil {
		return unavailable(err)
	}
	if unbound == 0 {
		return nil
	}
	return s.unclaim(ctx, id, spark, claimsKept)
}
