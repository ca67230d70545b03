-- KEYS: 1 to 4 as in put.lua.
-- ARGV: 1 until, 2 at, 3 limit, 4 the entries' key without the id, 5 channel, 6 who tells, then the ids.
-- Returns nothing if all are in the log now, else when there is room again.
local live, known, free_at = 0, {}, nil
local entries = redis.call('HGETALL', KEYS[1])
for at = 1, #entries, 2 do
  if string.sub(entries[at], 1, 1) == 't' then
    local till = string.match(entries[at + 1], '^%d+')
    if tonumber(till) > tonumber(ARGV[2]) then
      live = live + 1
      known[string.sub(entries[at], 2)] = true
      if not free_at or tonumber(till) < tonumber(free_at) then free_at = till end
    end
  end
end
for at = 7, #ARGV do
  if not known[ARGV[at]] then
    live = live + 1
    known[ARGV[at]] = true
  end
end
if live > tonumber(ARGV[3]) then return free_at or ARGV[1] end
for at = 7, #ARGV do put('t' .. ARGV[at], ARGV[4] .. ARGV[at], ARGV[1], ARGV[2], '-') end
if #ARGV > 6 then announce(ARGV[5], ARGV[6]) end
return false
