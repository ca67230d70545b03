-- KEYS: 1 the keys. ARGV: 1 field of the id, 2 old secret, 3 new secret.
local key = redis.call('HGET', KEYS[1], ARGV[1])
if not key then return 0 end
local described, removed, sealed = string.match(key, '^(%S+ %d+ %S+ %d+ %d+) (%S+) (.*)$')
if not described then error('a key is malformed') end
if sealed ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], described .. ' ' .. removed .. ' ' .. ARGV[3])
return 1
