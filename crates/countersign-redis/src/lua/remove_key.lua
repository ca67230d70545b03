-- KEYS: 1 the keys. ARGV: 1 field of the id, 2 at.
local key = redis.call('HGET', KEYS[1], ARGV[1])
if not key then return 0 end
local described, removed = string.match(key, '^(%S+ %d+ %S+ %d+ %d+) (%S+) ')
if not described then error('a key is malformed') end
if removed ~= '-' then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], described .. ' ' .. ARGV[2] .. ' ')
return 1
