-- Merges an entry into the log. KEYS: 1 the user's entries by field, 2 all entries in order, 3 by `at`, 4 by `until`,
-- 5 the user's epochs by field, 6 the user's revoked tokens by `until`.
-- A member of 2 to 4 is the entry's key, \1 and its value, so that a page of members is a page of entries.
--
-- The first write is always one that Redis refuses when it is out of memory; it then refuses the whole script, for
-- what is refused is decided when a script starts. Nothing is removed before what takes its place is there.
local function later(one, other)
  if tonumber(one) < tonumber(other) then return other end
  return one
end

-- Keeps the summary `e` of a user's epochs: the highest, which session it excepts, and the highest that excepts
-- another one. Returns whether this entry is the highest: that one is never purged, so it is not among those by
-- `until`, where it would be looked at for ever.
local function is_highest(field, key, except)
  local number = string.sub(field, 2)
  local summary = redis.call('HGET', KEYS[5], 'e')
  if not summary then
    redis.call('HSET', KEYS[5], 'e', number .. ' ' .. except .. ' 00000000000000000000')
    return true
  end
  local highest, highest_except, other = string.match(summary, '^(%d+) (%S+) (%d+)$')
  if not highest then error('an epoch is malformed') end
  if number == highest then return true end
  if number > highest then
    local outdone = redis.call('HGET', KEYS[5], 'u' .. highest)
    local till = string.match(outdone, '^%d+')
    redis.call('ZADD', KEYS[4], till, string.sub(key, 1, -21) .. highest .. '\1' .. outdone)
    if except ~= highest_except then other = highest end
    redis.call('HSET', KEYS[5], 'e', number .. ' ' .. except .. ' ' .. other)
    return true
  end
  if number > other and except ~= highest_except then
    redis.call('HSET', KEYS[5], 'e', highest .. ' ' .. highest_except .. ' ' .. number)
  end
  return false
end

local function put(field, key, till, at, except)
  local kind = string.sub(field, 1, 1)
  local entries = kind == 'u' and KEYS[5] or KEYS[1]
  local known = redis.call('HGET', entries, field)
  if known then
    local known_till, known_at, known_except = string.match(known, '^(%d+) (%d+) (%S+)$')
    if not known_till then error('an entry is malformed') end
    till, at, except = later(till, known_till), later(at, known_at), known_except
  end
  local value = till .. ' ' .. at .. ' ' .. except
  if value == known then return end
  redis.call('HSET', entries, field, value)
  local member = key .. '\1' .. value
  redis.call('ZADD', KEYS[2], 0, member)
  redis.call('ZADD', KEYS[3], at, member)
  if kind == 't' then redis.call('ZADD', KEYS[6], till, string.sub(field, 2)) end
  if kind ~= 'u' or not is_highest(field, key, except) then
    redis.call('ZADD', KEYS[4], till, member)
  end
  if known then
    local old = key .. '\1' .. known
    redis.call('ZREM', KEYS[2], old)
    redis.call('ZREM', KEYS[3], old)
    redis.call('ZREM', KEYS[4], old)
  end
end

-- Tells the other nodes. A push is a convenience: without the right to it, the entry is written all the same.
local function announce(channel, from)
  redis.pcall('PUBLISH', channel, from)
end
