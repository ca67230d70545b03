-- KEYS: 1 to 4 as in put.lua, 5 the user's sessions.
-- ARGV: 1 the entry's key without its number, 2 until, 3 at, 4 excepted session or -, 5 mark, 6 channel, 7 who tells.
local function next_after(number)
  if number == '18446744073709551615' then return number end
  -- In halves, since a number here is exact only up to 2^53.
  local high, low = tonumber(string.sub(number, 1, 10)), tonumber(string.sub(number, 11)) + 1
  if low == 10000000000 then high, low = high + 1, 0 end
  return string.format('%010.0f%010.0f', high, low)
end

local summary = redis.call('HGET', KEYS[1], 'e')
local number = next_after(summary and string.match(summary, '^%d+') or '00000000000000000000')
put('u' .. number, ARGV[1] .. number, ARGV[2], ARGV[3], ARGV[4])
local sessions = redis.call('HGETALL', KEYS[5])
for at = 1, #sessions, 2 do
  local id, row = sessions[at], sessions[at + 1]
  local _, _, _, _, _, _, _, ended, epoch = parse(row)
  if id ~= ARGV[4] and epoch < number and ended == '-' then
    redis.call('HSET', KEYS[5], id, marked(row, ARGV[5]))
  end
end
announce(ARGV[6], ARGV[7])
return number
