-- KEYS: 1 all sessions by absolute expiry, then for each the user's sessions and those without a mark.
-- ARGV: 1 before, then of each the member of 1 and the id.
local gone = 0
for number = 1, (#KEYS - 1) / 2 do
  local sessions, live = KEYS[2 * number], KEYS[2 * number + 1]
  local member, id = ARGV[2 * number], ARGV[2 * number + 1]
  local absolute = redis.call('ZSCORE', KEYS[1], member)
  if absolute and tonumber(absolute) < tonumber(ARGV[1]) then
    redis.call('HDEL', sessions, id)
    redis.call('ZREM', live, id)
    redis.call('ZREM', KEYS[1], member)
    gone = gone + 1
  end
end
return gone
