-- KEYS: 1 the user's secrets, 2 all secrets by their expiry.
-- ARGV: 1 purpose, 2 the secret, 3 expiry, 4 the member of 2.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[4])
return 1
