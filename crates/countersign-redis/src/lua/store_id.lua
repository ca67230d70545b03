-- KEYS: 1 the store's description. ARGV: 1 candidate.
redis.call('HSETNX', KEYS[1], 'id', ARGV[1])
return redis.call('HGET', KEYS[1], 'id')
