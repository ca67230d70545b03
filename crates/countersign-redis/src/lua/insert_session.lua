-- KEYS: 1 the user's sessions, 2 those without a mark by their beginning, 3 the user's epochs, 4 all sessions by absolute
-- expiry. ARGV: 1 id, 2 row, 3 epoch, 4 member of 4, 5 absolute expiry, 6 beginning, if the row has no mark.
local summary = redis.call('HGET', KEYS[3], 'e')
local epoch = summary and string.match(summary, '^%d+') or '00000000000000000000'
if epoch ~= ARGV[3] then return 'epoch' end
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 'taken' end
if ARGV[6] then redis.call('ZADD', KEYS[2], ARGV[6], ARGV[1]) end
redis.call('ZADD', KEYS[4], ARGV[5], ARGV[4])
return 'yes'
