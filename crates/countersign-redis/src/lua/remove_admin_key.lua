-- KEYS: 1 the admin keys. ARGV: 1 id.
return redis.call('HDEL', KEYS[1], ARGV[1])
