package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions"
)

// join makes a session a member of an engine that is up.
//
//	KEYS[1] engine    KEYS[2] its members
//	ARGV[1] session   ARGV[2] generation
//
// Returns the instance, or "" where it is down.
var join = redis.NewScript(`
local instance = redis.call('HGET', KEYS[1], 'instance')
if not instance then return '' end
local joined = redis.call('HGET', KEYS[2], ARGV[1])
if not joined or tonumber(joined) < tonumber(ARGV[2]) then redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end
return instance
`)

// putEngine records an engine as up.
//
//	KEYS[1] engine    KEYS[2] its members    KEYS[3] its lease
//	ARGV[1] who must hold the lease    ARGV[2] cluster
//	ARGV[3] instance's id    ARGV[4] instance
//	ARGV[5] organisation and ARGV[6] owner in whose limits it counts, "" = in nobody's
//	ARGV[7] and on: session, generation, ...
//
// Returns "done", "lost" or "up".
var putEngine = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'id') == ARGV[3] then return 'done' end -- the first answer was lost
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 'lost' end
if redis.call('EXISTS', KEYS[1]) == 1 then return 'up' end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'v', 1, 'cluster', ARGV[2], 'id', ARGV[3], 'instance', ARGV[4])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'org', ARGV[5], 'owner', ARGV[6], 'place', ARGV[1]) end
for i = 7, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 'done'
`)

// leaveEngine takes a member out, and the engine down if it was the last.
//
//	KEYS[1] engine    KEYS[2] its members
//	ARGV[1] session   ARGV[2] generation up to which it leaves
//
// Returns the instance to stop and its place (organisation, owner, lease), or nothing.
var leaveEngine = redis.NewScript(`
local joined = redis.call('HGET', KEYS[2], ARGV[1])
if not joined or tonumber(joined) > tonumber(ARGV[2]) then return {} end
redis.call('HDEL', KEYS[2], ARGV[1])
if redis.call('HLEN', KEYS[2]) > 0 then return {} end
local had = redis.call('HMGET', KEYS[1], 'instance', 'org', 'owner', 'place')
redis.call('DEL', KEYS[1])
if not had[1] then return {} end
return {had[1], had[2] or '', had[3] or '', had[4] or ''}
`)

// dropEngine takes an engine down.
//
//	KEYS[1] engine    KEYS[2] its members    ARGV[1] the instance's id
//
// Returns {organisation, owner, lease, session, generation, ...}, or nothing.
var dropEngine = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return {} end
local had = redis.call('HMGET', KEYS[1], 'org', 'owner', 'place')
local answer = {had[1] or '', had[2] or '', had[3] or ''}
for _, v in ipairs(redis.call('HGETALL', KEYS[2])) do table.insert(answer, v) end
redis.call('DEL', KEYS[1], KEYS[2])
return answer
`)

// lease takes a lease or takes it for longer.
//
//	KEYS[1] lease    ARGV[1] who    ARGV[2] for how long, ms
//
// Returns 1, or 0 where somebody else holds it.
var lease = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
`)

// unlease gives a lease back, or what else names who has it.
//
//	KEYS[1] lease    ARGV[1] who
var unlease = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`)

func (s *Store) engineKeys(key sessions.EngineKey) []string {
	return []string{s.keys.engine(key), s.keys.members(key)}
}

// JoinEngine implements sessions.EngineStore.
func (s *Store) JoinEngine(ctx context.Context, key sessions.EngineKey, id sessions.ID, generation uint64) (sessions.Instance, error) {
	got, err := join.Run(ctx, s.rdb, s.engineKeys(key), string(id), generation).Text()
	if err != nil {
		return sessions.Instance{}, unavailable(err)
	}
	if got == "" {
		return sessions.Instance{}, sessions.ErrEngineDown
	}
	in, err := decodeEngine(got)
	if err != nil {
		return sessions.Instance{}, fmt.Errorf("record of engine %s: %w", key, err)
	}
	return *in, nil
}

// PutEngine implements sessions.EngineStore.
func (s *Store) PutEngine(ctx context.Context, e sessions.EngineRecord, lease string) error {
	instance, err := encodeEngine(&e.Instance)
	if err != nil {
		return err
	}
	if err := s.rdb.SAdd(ctx, s.keys.engines(), string(e.Key)).Err(); err != nil {
		return unavailable(err)
	}
	args := []any{lease, e.Cluster, e.ID, instance, e.Place.Org, e.Place.Owner}
	for id, generation := range e.Members {
		args = append(args, string(id), generation)
	}
	got, err := putEngine.Run(ctx, s.rdb, append(s.engineKeys(e.Key), s.keys.engineLease(e.Key)), args...).Text()
	switch {
	case err != nil:
		return unavailable(err)
	case got == "lost":
		return sessions.ErrLeaseLost
	case got == "up":
		return sessions.ErrConflict
	}
	return nil
}

// LeaveEngine implements sessions.EngineStore.
func (s *Store) LeaveEngine(ctx context.Context, key sessions.EngineKey, id sessions.ID, generation uint64) (*sessions.Instance, error) {
	got, err := leaveEngine.Run(ctx, s.rdb, s.engineKeys(key), string(id), generation).StringSlice()
	if err != nil {
		return nil, unavailable(err)
	}
	if len(got) < 4 {
		return nil, nil
	}
	s.placeEnds(ctx, key, got[1:])
	return decodeEngine(got[0])
}

// DropEngine implements sessions.EngineStore.
func (s *Store) DropEngine(ctx context.Context, key sessions.EngineKey, instance string) (map[sessions.ID]uint64, error) {
	got, err := dropEngine.Run(ctx, s.rdb, s.engineKeys(key), instance).StringSlice()
	if err != nil {
		return nil, unavailable(err)
	}
	if len(got) < 3 {
		return map[sessions.ID]uint64{}, nil
	}
	s.placeEnds(ctx, key, got)
	return members(pairs(got[3:]))
}

func members(fields map[string]string) (map[sessions.ID]uint64, error) {
	m := make(map[sessions.ID]uint64, len(fields))
	for id, text := range fields {
		generation, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("member %s of an engine: %w", id, err)
		}
		m[sessions.ID(id)] = generation
	}
	return m, nil
}

// Engines implements sessions.EngineStore. Keys of engines that are down for good
// are taken out of the set on the way.
func (s *Store) Engines(ctx context.Context) ([]sessions.EngineRecord, error) {
	keys, err := s.rdb.SMembers(ctx, s.keys.engines()).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	type read struct{ record, members *redis.MapStringStringCmd }
	reads := make([]read, len(keys))
	leases := make([]*redis.IntCmd, len(keys))
	_, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range keys {
			k := sessions.EngineKey(key)
			reads[i] = read{p.HGetAll(ctx, s.keys.engine(k)), p.HGetAll(ctx, s.keys.members(k))}
			leases[i] = p.Exists(ctx, s.keys.engineLease(k))
		}
		return nil
	})
	if err != nil {
		return nil, unavailable(err)
	}
	var up []sessions.EngineRecord
	var down []sessions.EngineKey
	for i, key := range keys {
		f := reads[i].record.Val()
		if len(f) == 0 {
			// Who puts one up holds the lease when it adds the key.
			if leases[i].Val() == 0 {
				down = append(down, sessions.EngineKey(key))
			}
			continue
		}
		in, err := decodeEngine(f["instance"])
		if err != nil {
			return nil, fmt.Errorf("record of engine %s: %w", key, err)
		}
		m, err := members(reads[i].members.Val())
		if err != nil {
			return nil, err
		}
		up = append(up, sessions.EngineRecord{Key: sessions.EngineKey(key), Cluster: f["cluster"], Instance: *in,
			Place: sessions.Place{Org: f["org"], Owner: f["owner"], Lease: f["place"]}, Members: m})
	}
	s.unlist(ctx, down)
	return up, nil
}

// unlist takes keys out of the set. Where an engine was put up since they were read,
// which may take no time at all, its key comes back: one that is not in the set is
// looked after by nobody, and swept as one without a record.
func (s *Store) unlist(ctx context.Context, down []sessions.EngineKey) {
	if len(down) == 0 {
		return
	}
	members, leases, records := make([]any, len(down)), make([]*redis.IntCmd, len(down)), make([]*redis.IntCmd, len(down))
	for i, key := range down {
		members[i] = string(key)
	}
	s.rdb.SRem(ctx, s.keys.engines(), members...)
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range down { // the lease first: the record is put under it
			leases[i], records[i] = p.Exists(ctx, s.keys.engineLease(key)), p.Exists(ctx, s.keys.engine(key))
		}
		return nil
	})
	var up []any
	for i := range down {
		if err != nil || leases[i].Val()+records[i].Val() > 0 {
			up = append(up, members[i])
		}
	}
	if len(up) == 0 {
		return
	}
	if err := s.rdb.SAdd(context.WithoutCancel(ctx), s.keys.engines(), up...).Err(); err != nil {
		s.log.Error("engines that were put up meanwhile may not be looked after", zap.Any("engines", up), zap.Error(err))
	}
}

// LeaseEngine implements sessions.EngineStore.
func (s *Store) LeaseEngine(ctx context.Context, key sessions.EngineKey, token string, ttl time.Duration) (bool, error) {
	return s.lease(ctx, s.keys.engineLease(key), token, ttl)
}

// UnleaseEngine implements sessions.EngineStore.
func (s *Store) UnleaseEngine(ctx context.Context, key sessions.EngineKey, token string) error {
	return unavailable(unlease.Run(ctx, s.rdb, []string{s.keys.engineLease(key)}, token).Err())
}

// EngineLeased implements sessions.EngineStore.
func (s *Store) EngineLeased(ctx context.Context, key sessions.EngineKey) (bool, error) {
	n, err := s.rdb.Exists(ctx, s.keys.engineLease(key)).Result()
	return n > 0, unavailable(err)
}

// LeaseSession implements sessions.EngineStore.
func (s *Store) LeaseSession(ctx context.Context, id sessions.ID, token string, ttl time.Duration) (bool, error) {
	return s.lease(ctx, s.keys.sessionLease(id), token, ttl)
}

// UnleaseSession implements sessions.EngineStore.
func (s *Store) UnleaseSession(ctx context.Context, id sessions.ID, token string) error {
	return unavailable(unlease.Run(ctx, s.rdb, []string{s.keys.sessionLease(id)}, token).Err())
}

func (s *Store) lease(ctx context.Context, key, token string, ttl time.Duration) (bool, error) {
	got, err := lease.Run(ctx, s.rdb, []string{key}, token, ttl.Milliseconds()).Int()
	return got == 1, unavailable(err)
}
