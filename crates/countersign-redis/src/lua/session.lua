-- KEYS: 1 the user's sessions, 2 the user's entries. ARGV: 1 id.
local row = redis.call('HGET', KEYS[1], ARGV[1])
if not row then return false end
local found = redis.call('HMGET', KEYS[2], 'e', 's' .. ARGV[1])
return {row, found[1], found[2] and 1 or 0}
