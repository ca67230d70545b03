-- KEYS: 1 to 6 as in put.lua, 7 the user's sessions, 8 those without a mark.
-- ARGV: 1 id, 2 key of the entry, 3 until, 4 at, 5 mark, 6 channel, 7 who tells.
local row = redis.call('HGET', KEYS[7], ARGV[1])
if not row then return 'unknown' end
if is_ended(row) then return 'before' end
local field = 's' .. ARGV[1]
local in_log = redis.call('HEXISTS', KEYS[1], field) == 1
if not in_log then put(field, ARGV[2], ARGV[3], ARGV[4], '-') end
redis.call('HSET', KEYS[7], ARGV[1], marked(row, ARGV[5]))
redis.call('ZREM', KEYS[8], ARGV[1])
if in_log then return 'before' end
announce(ARGV[6], ARGV[7])
return 'now'
