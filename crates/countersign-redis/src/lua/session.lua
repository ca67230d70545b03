-- KEYS: 1 the user's sessions, 2 the user's entries, 3 the user's epochs. ARGV: 1 id.
local row = redis.call('HGET', KEYS[1], ARGV[1])
if not row then return false end
return {row, redis.call('HGET', KEYS[3], 'e'), redis.call('HEXISTS', KEYS[2], 's' .. ARGV[1])}
