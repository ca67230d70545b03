-- KEYS: 1 the records, 2 all records in order, then for each those of its name and those of its user, as for the
-- insert. ARGV: of each the member.
local gone = 0
for number, member in ipairs(ARGV) do
  if redis.call('ZREM', KEYS[2], member) == 1 then
    redis.call('HDEL', KEYS[1], string.sub(member, 17))
    redis.call('ZREM', KEYS[2 * number + 1], member)
    redis.call('ZREM', KEYS[2 * number + 2], member)
    gone = gone + 1
  end
end
return gone
