-- KEYS: 1 the account, 2 its e-mail address, 3 its username, if it has one. ARGV: 1 the user's id, then the account.
if redis.call('EXISTS', KEYS[2]) == 1 then return 'email' end
if KEYS[3] and redis.call('EXISTS', KEYS[3]) == 1 then return 'username' end
if redis.call('EXISTS', KEYS[1]) == 1 then return 'id' end
redis.call('SET', KEYS[2], ARGV[1])
if KEYS[3] then redis.call('SET', KEYS[3], ARGV[1]) end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 'yes'
