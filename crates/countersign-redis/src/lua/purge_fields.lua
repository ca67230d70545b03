-- Deletes users' records that are over. KEYS: 1 all records of the kind by their end, then for each the user's records.
-- ARGV: 1 before, then of each the member of 1 and the field.
local gone = 0
for number = 2, #KEYS do
  local member, field = ARGV[2 * number - 2], ARGV[2 * number - 1]
  local till = redis.call('ZSCORE', KEYS[1], member)
  if till and tonumber(till) < tonumber(ARGV[1]) then
    redis.call('HDEL', KEYS[number], field)
    redis.call('ZREM', KEYS[1], member)
    gone = gone + 1
  end
end
return gone
