-- KEYS: 1 all counters by their last change, then the counters. ARGV: 1 before, then the members of 1.
local gone = 0
for number = 2, #KEYS do
  local changed = redis.call('ZSCORE', KEYS[1], ARGV[number])
  if changed and tonumber(changed) < tonumber(ARGV[1]) then
    redis.call('DEL', KEYS[number])
    redis.call('ZREM', KEYS[1], ARGV[number])
    gone = gone + 1
  end
end
return gone
