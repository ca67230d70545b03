-- KEYS: 1 the account. ARGV: 1 since when; without it, it is enabled.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'revision', 1)
if ARGV[1] then
  redis.call('HSET', KEYS[1], 'disabled_at', ARGV[1])
else
  redis.call('HDEL', KEYS[1], 'disabled_at')
end
return 1
