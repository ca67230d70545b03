-- KEYS: 1 the keys. ARGV: 1 field of the id, 2 field of purpose and number, 3 the key.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 or redis.call('HEXISTS', KEYS[1], ARGV[2]) == 1 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3], ARGV[2], '')
return 1
