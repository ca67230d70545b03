-- KEYS: 1 the store's description. ARGV: 1 old record, empty for none, 2 new record.
local record = redis.call('HGET', KEYS[1], 'settings') or ''
if record ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'settings', ARGV[2])
return 1
