package redisstore

import "github.com/redis/go-redis/v9"

// whileOpen is how each of these scripts begins: nothing is kept for a session that is
// closed, or it would stay for ever.
const whileOpen = `
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'missing' end
if state == 'closed' then return 'closed' end
`

// nextEntry gives out the number of the next entry.
//
//	KEYS[1] record    KEYS[2] journal    KEYS[3] parts
//	ARGV[1] Spark id
//
// Returns the number, "missing" or "closed".
var nextEntry = redis.NewScript(whileOpen + `
return tostring(redis.call('HINCRBY', KEYS[2], ARGV[1] .. ' n', 1))
`)

// putPiece writes a piece of a body.
//
//	KEYS[1] record    KEYS[2] parts
//	ARGV[1] field     ARGV[2] piece
//
// Returns "done", "missing" or "closed".
var putPiece = redis.NewScript(whileOpen + `
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 'done'
`)

// spent tells what the entries of all Spark sessions are together, each with entryCost
// beside its body. It is counted anew once a minute from what is kept of each: replicas
// of before it was counted do not keep it.
const spent = `
local function spent()
  local now = tonumber(redis.call('TIME')[1])
  local have = redis.call('HMGET', KEYS[2], 'bytes', 'counted')
  local age = now - tonumber(have[2] or '0')
  if have[1] and age >= 0 and age < 60 then return tonumber(have[1]) end
  local sum = 0
  for _, spark in ipairs(redis.call('SMEMBERS', KEYS[4])) do
    local of = redis.call('HMGET', KEYS[2], spark .. ' bytes', spark .. ' count')
    sum = sum + tonumber(of[1] or '0') + ` + entryCost + ` * tonumber(of[2] or '0')
  end
  redis.call('HSET', KEYS[2], 'bytes', string.format('%.0f', sum), 'counted', now)
  return sum
end
`

// entryCost is about what an entry takes in Redis beside its body, in bytes.
const entryCost = "512"

// addEntry adds an entry whose body is written.
//
//	KEYS[1] record     KEYS[2] journal    KEYS[3] parts    KEYS[4] the session's Spark ids
//	ARGV[1] Spark id   ARGV[2] seq        ARGV[3] size of its body   ARGV[4] pieces
//	ARGV[5] slot or "" ARGV[6] how many bytes the journal may have
//	ARGV[7] how many entries it may have  ARGV[8] "" = only ask
//	ARGV[9] how many bytes all journals of the session may have
//	ARGV[10] how many entries of this Spark session may be beyond that
//
// Returns "done", "full", "missing" or "closed".
var addEntry = redis.NewScript(whileOpen + spent + `
local spark = ARGV[1]
if redis.call('HEXISTS', KEYS[2], spark .. ' e ' .. ARGV[2]) == 1 then return 'done' end -- the first answer was lost
local have = redis.call('HMGET', KEYS[2], spark .. ' bytes', spark .. ' count', spark .. ' run', spark .. ' beyond')
if tonumber(have[1] or '0') + tonumber(ARGV[3]) > tonumber(ARGV[6]) then return 'full' end
if tonumber(have[2] or '0') + 1 > tonumber(ARGV[7]) then return 'full' end
local cost = tonumber(ARGV[3]) + ` + entryCost + `
local beyond = spent() + cost > tonumber(ARGV[9])
if beyond and tonumber(have[4] or '0') + 1 > tonumber(ARGV[10]) then return 'full' end
if ARGV[8] == '' then return 'done' end
local run = have[3] or '0'
if ARGV[5] == '' then run = tostring(redis.call('HINCRBY', KEYS[2], spark .. ' run', 1)) end
redis.call('HINCRBY', KEYS[2], spark .. ' bytes', ARGV[3])
redis.call('HINCRBY', KEYS[2], spark .. ' count', 1)
redis.call('HINCRBY', KEYS[2], 'bytes', cost)
if beyond then redis.call('HINCRBY', KEYS[2], spark .. ' beyond', 1) end
redis.call('HSET', KEYS[2], spark .. ' e ' .. ARGV[2], 'b ' .. ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. run .. ' ' .. ARGV[5])
return 'done'
`)

// dropping takes entries of a Spark session out.
const dropping = `
local spark = ARGV[1]
local function entry(seq)
  local value = redis.call('HGET', KEYS[2], spark .. ' e ' .. seq)
  if not value then return nil end
  return string.match(value, '^(%a) (%d+) (%d+) (%d+) (.*)$')
end
local function drop(seq)
  local state, size, pieces, run, slot = entry(seq)
  if not state then return end
  redis.call('HDEL', KEYS[2], spark .. ' e ' .. seq)
  redis.call('HINCRBY', KEYS[2], spark .. ' bytes', -tonumber(size))
  redis.call('HINCRBY', KEYS[2], spark .. ' count', -1)
  if redis.call('HEXISTS', KEYS[2], 'bytes') == 1 then redis.call('HINCRBY', KEYS[2], 'bytes', -tonumber(size) - ` + entryCost + `) end
  local beyond = spark .. ' beyond'
  if string.sub(slot, 1, 5) == 'lost-' and tonumber(redis.call('HGET', KEYS[2], beyond) or '0') > 0 then redis.call('HINCRBY', KEYS[2], beyond, -1) end
  for i = 0, tonumber(pieces) - 1 do redis.call('HDEL', KEYS[3], spark .. ' ' .. seq .. ' ' .. i) end
end
`

// settleEntry commits an entry or takes it back.
//
//	KEYS[1] record     KEYS[2] journal    KEYS[3] parts
//	ARGV[1] Spark id   ARGV[2] seq        ARGV[3] "commit" or "abort"
//
// Returns "done", also where there is no such entry.
var settleEntry = redis.NewScript(dropping + `
local state, size, pieces, run, slot = entry(ARGV[2])
if not state then return 'done' end
if ARGV[3] == 'abort' then
  drop(ARGV[2])
  return 'done'
end
redis.call('HSET', KEYS[2], spark .. ' e ' .. ARGV[2], 'c ' .. size .. ' ' .. pieces .. ' ' .. run .. ' ' .. slot)
if slot == '' then return 'done' end
local field = spark .. ' s ' .. slot
local held = redis.call('HGET', KEYS[2], field)
if held then
  local before, seq = string.match(held, '^(%d+) (%x+)$')
  if seq > ARGV[2] then return 'done' end
  if before == run and seq < ARGV[2] then drop(seq) end
end
redis.call('HSET', KEYS[2], field, run .. ' ' .. ARGV[2])
return 'done'
`)

// dropFields takes entries and slots of a Spark session out, and once it has none left all
// but the number that was given out last.
//
//	KEYS[1] record     KEYS[2] journal    KEYS[3] parts
//	ARGV[1] Spark id   ARGV[2] and on: "e <seq>" or "s <slot>"
//
// Returns "done".
var dropFields = redis.NewScript(dropping + `
for i = 2, #ARGV do
  if string.sub(ARGV[i], 1, 2) == 'e ' then drop(string.sub(ARGV[i], 3)) else redis.call('HDEL', KEYS[2], spark .. ' ' .. ARGV[i]) end
end
if tonumber(redis.call('HGET', KEYS[2], spark .. ' count') or '0') <= 0 then
  redis.call('HDEL', KEYS[2], spark .. ' count', spark .. ' bytes', spark .. ' run', spark .. ' beyond')
end
return 'done'
`)

// addBlob adds a blob whose body is written, once.
//
//	KEYS[1] record    KEYS[2] journal    KEYS[3] parts
//	ARGV[1] name      ARGV[2] size       ARGV[3] pieces
//	ARGV[4] how many bytes all blobs may have    ARGV[5] "" = only ask
//
// Returns "done", "have", "full", "missing" or "closed".
var addBlob = redis.NewScript(whileOpen + `
if redis.call('HEXISTS', KEYS[2], 'b ' .. ARGV[1]) == 1 then return 'have' end
local bytes = tonumber(redis.call('HGET', KEYS[2], 'blobs') or '0')
if bytes + tonumber(ARGV[2]) > tonumber(ARGV[4]) then return 'full' end
if ARGV[5] == '' then return 'done' end
redis.call('HINCRBY', KEYS[2], 'blobs', ARGV[2])
redis.call('HSET', KEYS[2], 'b ' .. ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
return 'done'
`)
