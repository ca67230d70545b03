-- KEYS: 1 and 2 as in mail.lua, 3 the mail. ARGV: 1 id, 2 now.
if redis.call('HEXISTS', KEYS[3], 'dead_since') == 0 then return 0 end
redis.call('HSET', KEYS[3], 'attempts', '0')
take_away(KEYS[3], ARGV[1])
put(KEYS[3], ARGV[1], 'waiting', ARGV[2])
return 1
