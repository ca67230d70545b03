-- KEYS: 1 to 6 as in put.lua.
-- ARGV: 1 until, 2 at, 3 limit, 4 the entries' key without the id, 5 channel, 6 who tells, then the ids.
-- Returns nothing if all are in the log now, else when there is room again.
local after = '(' .. ARGV[2]
local live = redis.call('ZCOUNT', KEYS[6], after, '+inf')
local _, free_at = unpack(redis.call('ZRANGEBYSCORE', KEYS[6], after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1))
local known = {}
for at = 7, #ARGV do
  local till = redis.call('ZSCORE', KEYS[6], ARGV[at])
  if not known[ARGV[at]] and not (till and tonumber(till) > tonumber(ARGV[2])) then live = live + 1 end
  known[ARGV[at]] = true
end
if live > tonumber(ARGV[3]) then return free_at or ARGV[1] end
for at = 7, #ARGV do put('t' .. ARGV[at], ARGV[4] .. ARGV[at], ARGV[1], ARGV[2], '-') end
if #ARGV > 6 then announce(ARGV[5], ARGV[6]) end
return false
