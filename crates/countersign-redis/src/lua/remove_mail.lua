-- KEYS: 1 and 2 as in mail.lua, 3 the mail. ARGV: 1 id.
if redis.call('EXISTS', KEYS[3]) == 0 then return 0 end
take_away(KEYS[3], ARGV[1])
redis.call('DEL', KEYS[3])
return 1
