package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
)

// operationsKept is how long an operation counts as running after a replica saw
// it last. Replicas tell of theirs every few seconds, for as long as a client may
// come back for them; so this only outlasts a replica that died, and with it the
// five minutes that Spark keeps a result nobody asks for.
const operationsKept = 5 * time.Minute

// streamsKept is how long what a replica told of its streams counts: it tells every few
// seconds, while there are any.
const streamsKept = 15 * time.Second

// releasedKept is how long it is known of an operation that it was released. A replica
// that takes it for running tells so every few seconds, and hears of it then.
const releasedKept = 30 * time.Second

// touch notes that a session is in use.
//
//	KEYS[1] record    KEYS[2] its operations    KEYS[3] its streams    KEYS[4] operations that were released
//	ARGV[1] replica    ARGV[2] its streams    ARGV[3] how long they count, ms    ARGV[4] how long released ones are known, ms
//	ARGV[5] how many operations are running    ARGV[6] how many are over    ARGV[7] and on: those, those, and those that were released
//
// Returns those of the running that were released.
var touch = redis.NewScript(`
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'closed' then return {} end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], 'used', now)
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[3], ARGV[1])
else
  redis.call('HSET', KEYS[3], ARGV[1], now .. ' ' .. ARGV[2])
  redis.call('PEXPIRE', KEYS[3], ARGV[3])
end
local gone = {}
local over = 7 + tonumber(ARGV[5])
local released = over + tonumber(ARGV[6])
local before = string.format('%.0f', now - tonumber(ARGV[4]))
for i = 7, over - 1 do
  local at = redis.call('ZSCORE', KEYS[4], ARGV[i])
  if at and tonumber(at) > tonumber(before) then
    gone[#gone + 1] = ARGV[i]
    redis.call('ZREM', KEYS[2], ARGV[i])
  else
    redis.call('ZADD', KEYS[2], now, ARGV[i])
  end
end
for i = over, #ARGV do
  redis.call('ZREM', KEYS[2], ARGV[i])
  if i >= released then redis.call('ZADD', KEYS[4], now, ARGV[i]) end
end
if released <= #ARGV then
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', before)
  redis.call('PEXPIRE', KEYS[4], ARGV[4])
end
return gone
`)

// setStage notes what is being done for a session, where there is a record.
//
//	KEYS[1] record    ARGV[1] stage    ARGV[2] failure
var setStage = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return redis.call('HSET', KEYS[1], 'stage', ARGV[1], 'staged', now, 'failure', ARGV[2])
`)

// unschedule takes back a look whose time has come.
//
//	KEYS[1] looks    ARGV[1] session
//
// Returns 1 if there was one.
var unschedule = redis.NewScript(`
local at = redis.call('ZSCORE', KEYS[1], ARGV[1])
local time = redis.call('TIME')
if not at or tonumber(at) > time[1] * 1000 + math.floor(time[2] / 1000) then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])
`)

// touchBatch is how many sessions one request to Redis touches.
const touchBatch = 256

// Touch implements sessions.UseStore. Where a part of Redis is away, the sessions of the
// others are told of.
func (s *Store) Touch(ctx context.Context, uses []sessions.Use) (map[sessions.ID][]string, error) {
	released := map[sessions.ID][]string{}
	var away error
	for batch := range slices.Chunk(uses, touchBatch) {
		answers, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, u := range batch {
				touch.Eval(ctx, p, []string{s.keys.session(u.ID), s.keys.operations(u.ID), s.keys.streams(u.ID), s.keys.released(u.ID)}, touchArgs(u)...)
			}
			return nil
		})
		failed := 0
		for i, answer := range answers {
			ops, err := answer.(*redis.Cmd).StringSlice()
			if err != nil {
				failed++
			} else if len(ops) > 0 {
				released[batch[i].ID] = ops
			}
		}
		if err != nil {
			away = unavailable(err)
		}
		if failed == len(batch) {
			break // all of it, then: no need to wait for it again and again
		}
	}
	return released, away
}

func touchArgs(u sessions.Use) []any {
	args := make([]any, 0, 6+len(u.Running)+len(u.Over)+len(u.Released))
	args = append(args, u.Replica, u.Streams, streamsKept.Milliseconds(), releasedKept.Milliseconds(), len(u.Running), len(u.Over))
	for _, list := range [][]string{u.Running, u.Over, u.Released} {
		for _, op := range list {
			args = append(args, op)
		}
	}
	return args
}

// Running implements sessions.UseStore.
func (s *Store) Running(ctx context.Context, id sessions.ID) (int, error) {
	now, err := s.Clock(ctx)
	if err != nil {
		return 0, err
	}
	n, err := s.rdb.ZCount(ctx, s.keys.operations(id), strconv.FormatInt(now.Add(-operationsKept).UnixMilli(), 10), "+inf").Result()
	return int(n), unavailable(err)
}

// Streams implements sessions.UseStore.
func (s *Store) Streams(ctx context.Context, id sessions.ID, replica string) (int64, error) {
	now, err := s.Clock(ctx)
	if err != nil {
		return 0, err
	}
	told, err := s.rdb.HGetAll(ctx, s.keys.streams(id)).Result()
	if err != nil {
		return 0, unavailable(err)
	}
	var sum int64
	for who, text := range told {
		var at, n int64
		if _, err := fmt.Sscan(text, &at, &n); err != nil {
			return 0, fmt.Errorf("streams of session %s: %q: %w", id, text, err)
		}
		if who != replica && now.UnixMilli()-at <= streamsKept.Milliseconds() {
			sum += n
		}
	}
	return sum, nil
}

// Clock implements sessions.UseStore.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	now, err := s.rdb.Time(ctx).Result()
	return now, unavailable(err)
}

// Schedule implements sessions.UseStore.
func (s *Store) Schedule(ctx context.Context, id sessions.ID, at time.Time) error {
	if at.IsZero() {
		return unavailable(unschedule.Run(ctx, s.rdb, []string{s.keys.looks()}, string(id)).Err())
	}
	return unavailable(s.rdb.ZAdd(ctx, s.keys.looks(), redis.Z{Score: float64(at.UnixMilli()), Member: string(id)}).Err())
}

// Scheduled implements sessions.UseStore.
func (s *Store) Scheduled(ctx context.Context, at time.Time, limit int) ([]sessions.ID, error) {
	members, err := s.rdb.ZRangeArgs(ctx, redis.ZRangeArgs{
		Key: s.keys.looks(), ByScore: true, Start: "-inf", Stop: at.UnixMilli(), Count: int64(limit),
	}).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	ids := make([]sessions.ID, len(members))
	for i, m := range members {
		ids[i] = sessions.ID(m)
	}
	return ids, nil
}

// SetStage implements sessions.UseStore.
func (s *Store) SetStage(ctx context.Context, id sessions.ID, stage, failure string) error {
	return unavailable(setStage.Run(ctx, s.rdb, []string{s.keys.session(id)}, stage, failure).Err())
}
