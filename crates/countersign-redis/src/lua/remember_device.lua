-- KEYS: 1 the user's devices, 2 all devices by `until`. ARGV: 1 the device's digest, 2 until, 3 how many devices at
-- most, 4 the user's id. Returns whether the user had devices, but not this one.
local known, count = redis.call('HGET', KEYS[1], ARGV[1]), redis.call('HLEN', KEYS[1])
local is_new_to_known_user = count > 0 and not known
local till = ARGV[2]
if known and tonumber(known) > tonumber(till) then till = known end
redis.call('HSET', KEYS[1], ARGV[1], till)
redis.call('ZADD', KEYS[2], till, ARGV[4] .. '\1' .. ARGV[1])
for _ = tonumber(ARGV[3]) + 1, redis.call('HLEN', KEYS[1]) do
  -- The device that would be forgotten first; of several, not the one that is used now.
  local devices, first, first_till = redis.call('HGETALL', KEYS[1]), nil, nil
  for at = 1, #devices, 2 do
    local digest, device_till = devices[at], tonumber(devices[at + 1])
    if not first or device_till < first_till or (device_till == first_till and first == ARGV[1]) then
      first, first_till = digest, device_till
    end
  end
  redis.call('HDEL', KEYS[1], first)
  redis.call('ZREM', KEYS[2], ARGV[4] .. '\1' .. first)
end
return is_new_to_known_user and 1 or 0
