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
steps = ARGV[13] .. ' ' .. string.sub(steps, 1, 7 * (#ARGV[13] + 1))
redis.call('HSET', KEYS[1], 'state', ARGV[4], 'reason', ARGV[5], 'changed', ARGV[6], 'steps', steps)
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
