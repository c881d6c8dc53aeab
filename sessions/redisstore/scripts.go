package redisstore

import "github.com/redis/go-redis/v9"

// Each script runs whole or not at all, and all its KEYS share one hash tag.

// reserve gives a name of an owner to a new session and lists the session.
//
//	KEYS[1] names    KEYS[2] the owner's index    KEYS[3] the request's key
//	ARGV[1] name     ARGV[2] session
//	ARGV[3] how long to remember the request, ms; 0 = there is no request id
//	ARGV[4] session from which the name may be taken over, or ""
//	ARGV[5] how many names the owner may have; 0 = any number
//
// Returns {"new", session}; {"again", session} if the request is remembered;
// {"taken", session} if an other one has the name; {"full", session} if the
// owner has too many.
var reserve = redis.NewScript(`
if ARGV[3] ~= '0' then
  local first = redis.call('GET', KEYS[3])
  if first then return {'again', first} end
end
local holder = redis.call('HGET', KEYS[1], ARGV[1])
if holder and holder ~= ARGV[2] and holder ~= ARGV[4] then return {'taken', holder} end
if not holder and ARGV[5] ~= '0' and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then return {'full', ARGV[2]} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[2])
if ARGV[3] ~= '0' then redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3]) end
return {'new', ARGV[2]}
`)

// unreserve undoes a reserve.
//
//	KEYS as for reserve    ARGV[1] name    ARGV[2] session
//
// Returns 1.
var unreserve = redis.NewScript(`
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
redis.call('ZREM', KEYS[2], ARGV[2])
if redis.call('GET', KEYS[3]) == ARGV[2] then redis.call('DEL', KEYS[3]) end
return 1
`)

// place gives a session one of the places of its organisation.
//
//	KEYS[1] open sessions    ARGV[1] session    ARGV[2] how many there may be; 0 = any number
//
// Returns 1 if the session has a place, else 0.
var place = redis.NewScript(`
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 1 end
if ARGV[2] ~= '0' and redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
return redis.call('SADD', KEYS[1], ARGV[1])
`)

// takeDue hands out sessions whose time has come, and puts each off.
//
//	KEYS[1] deadlines    ARGV[1] the time now, ms    ARGV[2] put off until, ms    ARGV[3] how many
//
// Returns the sessions.
var takeDue = redis.NewScript(`
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], ARGV[2], id) end
return due
`)

// release takes a name back from a session that is closed.
//
//	KEYS[1] names    ARGV[1] name    ARGV[2] session
//
// Returns 1 if the session had the name, else 0.
var release = redis.NewScript(`
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
`)

// record writes a new record, or leaves the one that is there.
//
//	KEYS[1] record    ARGV field, value, field, value ...
//
// Returns the record that is there now, as field, value, ...
var record = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('HSET', KEYS[1], unpack(ARGV)) end
return redis.call('HGETALL', KEYS[1])
`)

// closedLabels is how many bytes of labels a closed session keeps, for lists; of more it
// keeps none.
const closedLabels = "1024"

// transition changes the state of a session and tells everybody.
//
//	KEYS[1] record    KEYS[2] the session's set of bound Spark ids
//	KEYS[3] the session's tokens    KEYS[4] its operations    KEYS[5] its tokens' uses
//	KEYS[6] to KEYS[8] journal, parts and carried, which end with a close
//	ARGV[1] session   ARGV[2] state it must be in, "" = any that is not closed
//	ARGV[3] generation it must have, not compared where ARGV[2] is ""
//	ARGV[4] new state ARGV[5] reason    ARGV[6] time of the change, ms
//	ARGV[7] how long a closed session is kept, ms    ARGV[8] channel
//	ARGV[9] the engine that it runs on from now on, "" = as before
//	ARGV[10] how long it must have been unused, ms, 0 = that does not matter
//	ARGV[11] by how much the clock is to be put back, ms
//	ARGV[12] how long an operation counts as running after it was last seen, ms
//	ARGV[13] a name of this step alone
//
// Returns {"done", record}, {"missing"}, {"closed"} or {"conflict"}. Closing a
// closed session changes nothing and returns {"done", record}. What is large and of no more
// use goes with a close: whoever creates and closes in a loop leaves little for Keep.
//
// Where the answer is lost the client asks again, by the same name: the names of the
// steps of the last minute, 64 at most, are in the record, each with its second, so
// that none is done twice, nor denied. {"over"}: it was done, and others have followed.
// While replicas of before layout 4 take turns with others three names are sure to stay.
var transition = redis.NewScript(`
local have = redis.call('HMGET', KEYS[1], 'state', 'generation', 'used', 'steps')
if not have[1] then return {'missing'} end
local steps = have[4] or ''
local at = string.find(steps, ARGV[13], 1, true)
if at == 1 then return {'done', redis.call('HGETALL', KEYS[1])} end
if at then return {'over'} end
if have[1] == 'closed' then
  if ARGV[4] == 'closed' then return {'done', redis.call('HGETALL', KEYS[1])} end
  return {'closed'}
end
if ARGV[2] ~= '' and (have[1] ~= ARGV[2] or have[2] ~= ARGV[3]) then return {'conflict'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[11])
if ARGV[10] ~= '0' then
  if now - tonumber(have[3] or 0) < tonumber(ARGV[10]) then return {'conflict'} end
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now - tonumber(ARGV[12]))
  if redis.call('ZCARD', KEYS[4]) > 0 then return {'conflict'} end
end
local names = {ARGV[13] .. '@' .. time[1]}
for name, second in string.gmatch(steps, '(%w+)@?(%d*)') do
  if #names == 64 then break end
  if second == '' then second = time[1] end -- written before names had a second
  if time[1] - second < 60 then names[#names + 1] = name .. '@' .. second end
end
redis.call('HSET', KEYS[1], 'state', ARGV[4], 'reason', ARGV[5], 'changed', ARGV[6], 'steps', table.concat(names, ' '))
redis.call('HDEL', KEYS[1], 'stage', 'staged') -- who was waking it may be gone
if ARGV[4] == 'active' then
  redis.call('HINCRBY', KEYS[1], 'generation', 1)
  redis.call('HSET', KEYS[1], 'used', string.format('%.0f', now))
  redis.call('HDEL', KEYS[1], 'failure')
end
if ARGV[4] == 'idle' then redis.call('HSET', KEYS[1], 'idled', ARGV[6]) end
if ARGV[9] ~= '' then
  if redis.call('HGET', KEYS[1], 'engine') ~= ARGV[9] then
    redis.call('DEL', KEYS[4])
    redis.call('HSET', KEYS[1], 'engine_generation', redis.call('HGET', KEYS[1], 'generation'))
  end
  redis.call('HSET', KEYS[1], 'engine', ARGV[9])
end
local revision = redis.call('HINCRBY', KEYS[1], 'revision', 1)
if ARGV[4] == 'closed' then
  redis.call('HSET', KEYS[1], 'closed', ARGV[6])
  redis.call('HDEL', KEYS[1], 'conf', 'revoked', 'failure', 'stage', 'staged')
  if redis.call('HSTRLEN', KEYS[1], 'labels') > ` + closedLabels + ` then redis.call('HDEL', KEYS[1], 'labels') end
  redis.call('PEXPIRE', KEYS[1], ARGV[7])
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
  redis.call('PEXPIRE', KEYS[3], ARGV[7])
  redis.call('DEL', KEYS[4])
  redis.call('PEXPIRE', KEYS[5], ARGV[7])
  redis.call('UNLINK', KEYS[6], KEYS[7], KEYS[8])
end
local generation = redis.call('HGET', KEYS[1], 'generation')
redis.call('PUBLISH', ARGV[8], ARGV[1] .. ' ' .. ARGV[4] .. ' ' .. generation .. ' ' .. revision)
return {'done', redis.call('HGETALL', KEYS[1])}
`)

// claim gives a Spark id to a session if nobody has it.
//
//	KEYS[1] binding    ARGV[1] session
//
// Returns "new", "own" (it had it already) or "foreign".
var claim = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if not holder then
  redis.call('SET', KEYS[1], ARGV[1])
  return 'new'
end
if holder == ARGV[1] then
  redis.call('PERSIST', KEYS[1]) -- it had an end if nothing had come of it
  return 'own'
end
return 'foreign'
`)

// attach puts a claimed Spark id into the session's set.
//
//	KEYS[1] record     KEYS[2] the session's set of bound Spark ids
//	ARGV[1] Spark id   ARGV[2] how many ids the set may hold
//
// Returns "done", "missing", "closed" or "full".
var attach = redis.NewScript(`
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'missing' end
if state == 'closed' then return 'closed' end
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 'done' end
if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[2]) then return 'full' end
redis.call('SADD', KEYS[2], ARGV[1])
return 'done'
`)

// unclaim ends a binding, now or later.
//
//	KEYS[1] binding    ARGV[1] session    ARGV[2] how long it is kept, ms; 0 = not at all
//
// Returns 1 if the session had it, else 0.
var unclaim = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
if redis.call('PTTL', KEYS[1]) == -1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
`)
