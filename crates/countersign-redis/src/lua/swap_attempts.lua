-- KEYS: 1 the counter, 2 all counters by their last change.
-- ARGV: 1 new, empty if nothing is left of it, 2 when, 3 member of 2, 4 old; without 4 there must be none.
-- Returns nothing if it was swapped, else the counter as it is, or an empty text if there is none.
local current = redis.call('GET', KEYS[1])
if current ~= (ARGV[4] or false) then return current or '' end
if ARGV[1] == '' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[3])
  return false
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[3])
return false
