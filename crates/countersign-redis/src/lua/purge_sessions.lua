-- KEYS: 1 all sessions by absolute expiry, then the sessions of a user, one key for each.
-- ARGV: 1 before, then of each the member of 1 and the id.
local gone = 0
for number = 2, #KEYS do
  local member, id = ARGV[2 * number - 2], ARGV[2 * number - 1]
  local absolute = redis.call('ZSCORE', KEYS[1], member)
  if absolute and tonumber(absolute) < tonumber(ARGV[1]) then
    redis.call('HDEL', KEYS[number], id)
    redis.call('ZREM', KEYS[1], member)
    gone = gone + 1
  end
end
return gone
