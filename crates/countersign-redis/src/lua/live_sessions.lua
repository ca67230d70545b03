-- Some of a user's sessions without a mark, the newest first, and what the log says, from one moment.
-- KEYS: 1 the user's sessions, 2 those without a mark by their beginning, 3 the user's entries, 4 the user's epochs.
-- ARGV: 1 the latest beginning, 2 how many to pass over, 3 how many to return.
-- Returns the summary of the epochs, then of each its id, its row, and whether the log has ended it.
local found = {redis.call('HGET', KEYS[4], 'e')}
for _, id in ipairs(redis.call('ZREVRANGEBYSCORE', KEYS[2], ARGV[1], '-inf', 'LIMIT', ARGV[2], ARGV[3])) do
  found[#found + 1] = id
  found[#found + 1] = redis.call('HGET', KEYS[1], id)
  found[#found + 1] = redis.call('HEXISTS', KEYS[3], 's' .. id)
end
return found
