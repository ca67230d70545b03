-- KEYS: 1 the account, 2 all accounts in order, 3 those that are to be deleted, then the names. ARGV: 1 the user's id,
-- 2 the member of 2, 3 since when it is to be deleted or -, then of each name what it is, then the account.
local names = #KEYS - 3
if redis.call('EXISTS', KEYS[1]) == 1 then return 'id' end
for number = 1, names do
  if redis.call('EXISTS', KEYS[3 + number]) == 1 then return ARGV[3 + number] end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 4 + names))
for number = 1, names do redis.call('SET', KEYS[3 + number], ARGV[1]) end
redis.call('ZADD', KEYS[2], 0, ARGV[2])
if ARGV[3] ~= '-' then redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1]) end
return 'yes'
