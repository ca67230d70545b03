-- KEYS: 1 the account, 2 all accounts in order, 3 those that are to be deleted, 4 the user's secrets, 5 all secrets by
-- their expiry, 6 the user's devices, 7 all devices by `until`, then the account's names. ARGV: 1 the revision as it
-- was read, 2 the user's id, 3 the member of 2.
if redis.call('EXISTS', KEYS[1]) == 0 then return 'unknown' end
if (redis.call('HGET', KEYS[1], 'revision') or '0') ~= ARGV[1] then return 'changed' end
forget(KEYS[4], KEYS[5], ARGV[2])
forget(KEYS[6], KEYS[7], ARGV[2])
for number = 8, #KEYS do
  if redis.call('GET', KEYS[number]) == ARGV[2] then redis.call('DEL', KEYS[number]) end
end
redis.call('ZREM', KEYS[2], ARGV[3])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('DEL', KEYS[1])
return 'yes'
