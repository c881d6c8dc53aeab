package redisstore

import (
	"context"
	"fmt"
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

// touch notes that a session is in use.
//
//	KEYS[1] record    KEYS[2] its operations    KEYS[3] its streams
//	ARGV[1] replica    ARGV[2] its streams    ARGV[3] how long they count, ms
//	ARGV[4] how many operations are running    ARGV[5] and on: those, then those that are over
var touch = redis.NewScript(`
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'closed' then return 0 end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], 'used', now)
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[3], ARGV[1])
else
  redis.call('HSET', KEYS[3], ARGV[1], now .. ' ' .. ARGV[2])
  redis.call('PEXPIRE', KEYS[3], ARGV[3])
end
for i = 5, #ARGV do
  if i < 5 + tonumber(ARGV[4]) then
    redis.call('ZADD', KEYS[2], now, ARGV[i])
  else
    redis.call('ZREM', KEYS[2], ARGV[i])
  end
end
return 1
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

// Touch implements sessions.UseStore.
func (s *Store) Touch(ctx context.Context, uses []sessions.Use) error {
	for len(uses) > 0 {
		n := min(len(uses), touchBatch)
		batch := uses[:n]
		uses = uses[n:]
		_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, u := range batch {
				args := make([]any, 0, 4+len(u.Running)+len(u.Over))
				args = append(args, u.Replica, u.Streams, streamsKept.Milliseconds(), len(u.Running))
				for _, op := range u.Running {
					args = append(args, op)
				}
				for _, op := range u.Over {
					args = append(args, op)
				}
				touch.Eval(ctx, p, []string{s.keys.session(u.ID), s.keys.operations(u.ID), s.keys.streams(u.ID)}, args...)
			}
			return nil
		})
		if err != nil {
			return unavailable(err)
		}
	}
	return nil
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
