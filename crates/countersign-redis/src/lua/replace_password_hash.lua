-- KEYS: 1 the account. ARGV: 1 new, 2 old; without 2 there must be none.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local current = redis.call('HGET', KEYS[1], 'password_hash')
if current ~= (ARGV[2] or false) then return 0 end
redis.call('HSET', KEYS[1], 'password_hash', ARGV[1])
redis.call('HINCRBY', KEYS[1], 'revision', 1)
return 1
