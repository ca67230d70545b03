-- KEYS: 1 and 2 as in mail.lua, 3 the mail. ARGV: 1 id, 2 attempts, 3 state, 4 the state's time, 5 error.
if redis.call('HGET', KEYS[3], 'attempts') ~= ARGV[2] then return 0 end
if redis.call('HEXISTS', KEYS[3], 'dead_since') == 1 then return 0 end
redis.call('HSET', KEYS[3], 'last_error', ARGV[5])
take_away(KEYS[3], ARGV[1])
put(KEYS[3], ARGV[1], ARGV[3], ARGV[4])
return 1
