-- KEYS: the mails. Returns the fields of each.
local found = {}
for number, mail in ipairs(KEYS) do found[number] = redis.call('HGETALL', mail) end
return found
