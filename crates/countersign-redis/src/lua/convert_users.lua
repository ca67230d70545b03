-- From layouts 1 and 2: notes accounts in the list of all, and the keys of their names for searches. KEYS: 1 all
-- accounts in order, then the accounts. ARGV: of each the revision as it was read, the member of 1, the key of its
-- e-mail address and that of its username, each empty if it has none.
for number = 2, #KEYS do
  local account, at = KEYS[number], 4 * number - 7
  if redis.call('EXISTS', account) == 1 and (redis.call('HGET', account, 'revision') or '0') == ARGV[at] then
    redis.call('ZADD', KEYS[1], 0, ARGV[at + 1])
    if ARGV[at + 2] ~= '' then redis.call('HSET', account, 'email_key', ARGV[at + 2]) end
    if ARGV[at + 3] ~= '' then redis.call('HSET', account, 'username_key', ARGV[at + 3]) end
  end
end
return 1
