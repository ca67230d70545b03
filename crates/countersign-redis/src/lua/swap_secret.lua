-- KEYS: 1 the user's secrets, 2 all secrets by their expiry.
-- ARGV: 1 purpose, 2 the member of 2, 3 old, 4 new, empty to delete it.
-- Returns nothing if it was swapped, else the secret as it is, or an empty text if there is none.
local current = redis.call('HGET', KEYS[1], ARGV[1])
if current ~= ARGV[3] then return current or '' end
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[2])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
end
return false
