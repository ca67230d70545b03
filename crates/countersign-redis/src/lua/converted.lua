-- KEYS: 1 the store's description. ARGV: 1 the layout before, 2 the layout now.
if redis.call('HGET', KEYS[1], 'layout') == ARGV[1] then redis.call('HSET', KEYS[1], 'layout', ARGV[2]) end
return 1
