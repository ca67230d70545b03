-- KEYS: 1 and 2 as in mail.lua, 3 the mail. ARGV: 1 id, 2 state, 3 the state's time, then the mail's other fields.
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('HSET', KEYS[3], unpack(ARGV, 4))
put(KEYS[3], ARGV[1], ARGV[2], ARGV[3])
return 1
