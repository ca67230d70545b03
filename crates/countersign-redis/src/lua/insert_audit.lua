-- KEYS: 1 the records, 2 all records in order, then for each those of its name and those of its user. For a record
-- without a user, 2 stands there again.
-- ARGV: of each the id, the member and the record.
for number = 1, #ARGV / 3 do
  local id, member, record = ARGV[3 * number - 2], ARGV[3 * number - 1], ARGV[3 * number]
  if redis.call('HSETNX', KEYS[1], id, record) == 1 then
    redis.call('ZADD', KEYS[2], 0, member)
    redis.call('ZADD', KEYS[2 * number + 1], 0, member)
    redis.call('ZADD', KEYS[2 * number + 2], 0, member)
  end
end
return 1
