-- KEYS: 1 and 2 as in mail.lua, then the mails. ARGV: of each mail the member of 2.
local gone = 0
for number, member in ipairs(ARGV) do
  if redis.call('ZREM', KEYS[2], member) == 1 then
    redis.call('DEL', KEYS[2 + number])
    gone = gone + 1
  end
end
return gone
