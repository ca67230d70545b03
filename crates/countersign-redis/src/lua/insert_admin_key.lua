-- KEYS: 1 the admin keys. ARGV: 1 id, 2 the key.
return redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
