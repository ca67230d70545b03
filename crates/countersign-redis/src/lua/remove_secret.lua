-- KEYS: 1 the user's secrets, 2 all secrets by their expiry. ARGV: 1 purpose, 2 the member of 2.
redis.call('ZREM', KEYS[2], ARGV[2])
return redis.call('HDEL', KEYS[1], ARGV[1])
