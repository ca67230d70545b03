-- KEYS: 1 to 6 as in put.lua, 7 the user's sessions, 8 those without a mark.
-- ARGV: 1 the entry's key without its number, 2 until, 3 at, 4 excepted session or -, 5 mark, 6 how many are marked at
-- most, 7 before when what is outdone is forgotten, 8 channel, 9 who tells. Returns the epoch, when it was raised, and how many sessions were marked.
local function next_after(number)
  if number == '18446744073709551615' then return number end
  -- In halves, since a number here is exact only up to 2^53.
  local high, low = tonumber(string.sub(number, 1, 10)), tonumber(string.sub(number, 11)) + 1
  if low == 10000000000 then high, low = high + 1, 0 end
  return string.format('%010.0f%010.0f', high, low)
end

-- Calls with the number, `at`, excepted session and value of each of the user's `user` entries: few, for what is outdone
-- goes.
local function each_raise(call)
  local found = redis.call('HGETALL', KEYS[5])
  for at = 1, #found, 2 do
    local number = string.match(found[at], '^u(%d+)$')
    if number then
      local raised_at, except = string.match(found[at + 1], '^%d+ (%d+) (%S+)$')
      if not raised_at then error('an entry is malformed') end
      call(number, raised_at, except, found[at + 1])
    end
  end
end

-- Deletes what is old and decides nothing any more beside the highest entry: all lower ones, but for the highest that does
-- not except the same session.
local function forget_outdone(prefix, highest, highest_except, before)
  local other = '00000000000000000000'
  if highest_except ~= '-' then
    each_raise(function(number, _, except)
      if number < highest and number > other and except ~= highest_except then other = number end
    end)
  end
  redis.call('HSET', KEYS[5], 'e', highest .. ' ' .. highest_except .. ' ' .. other)
  each_raise(function(number, raised_at, _, value)
    if number < highest and number ~= other and tonumber(raised_at) < tonumber(before) then
      local member = prefix .. number .. '\1' .. value
      redis.call('HDEL', KEYS[5], 'u' .. number)
      redis.call('ZREM', KEYS[2], member)
      redis.call('ZREM', KEYS[3], member)
      redis.call('ZREM', KEYS[4], member)
    end
  end)
end

local summary = redis.call('HGET', KEYS[5], 'e')
local number = next_after(summary and string.match(summary, '^%d+') or '00000000000000000000')
local at = ARGV[3]
each_raise(function(_, raised_at) at = later(at, raised_at) end)
put('u' .. number, ARGV[1] .. number, ARGV[2], at, ARGV[4])
forget_outdone(ARGV[1], number, ARGV[4], ARGV[7])
local done = mark_ended(KEYS[7], KEYS[8], number, ARGV[4], ARGV[5], tonumber(ARGV[6]))
announce(ARGV[8], ARGV[9])
return {number, at, done}
