-- KEYS: 1 the account, 2 the accounts that are to be deleted, then the names that it claims, then those that it frees.
-- ARGV: 1 the revision as it was read, 2 the user's id, 3 since when it is to be deleted or -, 4 how many names it
-- claims, 5 how many texts the account is, then of each name that it claims what it is, then the account, then the
-- fields that it does not have.
local claims, texts = tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('EXISTS', KEYS[1]) == 0 then return 'changed' end
if (redis.call('HGET', KEYS[1], 'revision') or '0') ~= ARGV[1] then return 'changed' end
for number = 1, claims do
  local owner = redis.call('GET', KEYS[2 + number])
  if owner and owner ~= ARGV[2] then return ARGV[5 + number] end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 6 + claims, 5 + claims + texts))
for number = 1, claims do redis.call('SET', KEYS[2 + number], ARGV[2]) end
if ARGV[3] == '-' then
  redis.call('ZREM', KEYS[2], ARGV[2])
else
  redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
end
if #ARGV > 5 + claims + texts then redis.call('HDEL', KEYS[1], unpack(ARGV, 6 + claims + texts)) end
for number = 3 + claims, #KEYS do
  if redis.call('GET', KEYS[number]) == ARGV[2] then redis.call('DEL', KEYS[number]) end
end
return 'yes'
