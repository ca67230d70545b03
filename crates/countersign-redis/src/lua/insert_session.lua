-- KEYS: 1 the user's sessions, 2 the user's entries, 3 all sessions by absolute expiry.
-- ARGV: 1 id, 2 row, 3 epoch, 4 member of 3, 5 absolute expiry.
local summary = redis.call('HGET', KEYS[2], 'e')
local epoch = summary and string.match(summary, '^%d+') or '00000000000000000000'
if epoch ~= ARGV[3] then return 'epoch' end
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 'taken' end
redis.call('ZADD', KEYS[3], ARGV[5], ARGV[4])
return 'yes'
