-- KEYS: 1 and 2 as in mail.lua, then the mails. ARGV: 1 now, 2 the end of the lease, then of each mail the id.
-- Returns of each mail that was claimed the id and its fields.
local claimed = {}
for number = 3, #KEYS do
  local mail, id = KEYS[number], ARGV[number]
  local due = redis.call('ZSCORE', KEYS[1], id)
  if due and tonumber(due) <= tonumber(ARGV[1]) then
    local attempts = math.min(tonumber(redis.call('HGET', mail, 'attempts')) + 1, 4294967295)
    redis.call('HSET', mail, 'attempts', string.format('%.0f', attempts))
    put(mail, id, 'waiting', ARGV[2])
    claimed[#claimed + 1] = id
    claimed[#claimed + 1] = redis.call('HGETALL', mail)
  end
end
return claimed
