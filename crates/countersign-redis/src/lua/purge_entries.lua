-- KEYS: 1 all entries in order, 2 by `at`, 3 by `until`, then for each the hash that it is in, the user's sessions and the
-- user's revoked tokens.
-- ARGV: 1 before, then of each the member and the field.
local function outdone_by(entries, number)
  local highest = string.match(redis.call('HGET', entries, 'e') or '', '^%d+')
  return highest and number < highest
end

-- Looks again for the highest epoch that excepts another session than the highest one does, after `gone` went. When
-- there is no memory left for it, what stays is too strict rather than too lax, and memory is freed all the same.
local function summarize(entries, gone)
  local highest, except, other = string.match(redis.call('HGET', entries, 'e'), '^(%d+) (%S+) (%d+)$')
  if other ~= gone then return end
  other = '00000000000000000000'
  local found = redis.call('HGETALL', entries)
  for at = 1, #found, 2 do
    local number = string.match(found[at], '^u(%d+)$')
    if number and number > other and string.match(found[at + 1], '(%S+)$') ~= except then other = number end
  end
  redis.pcall('HSET', entries, 'e', highest .. ' ' .. except .. ' ' .. other)
end

local gone = 0
for number = 1, (#KEYS - 3) / 3 do
  local entries, sessions, tokens = KEYS[3 * number + 1], KEYS[3 * number + 2], KEYS[3 * number + 3]
  local member, field = ARGV[2 * number], ARGV[2 * number + 1]
  local till = redis.call('ZSCORE', KEYS[3], member)
  local free = till and tonumber(till) < tonumber(ARGV[1])
  local kind, reference = string.sub(field, 1, 1), string.sub(field, 2)
  if free and kind == 's' then
    local row = redis.call('HGET', sessions, reference)
    free = not row or is_ended(row)
  elseif free and kind == 'u' then
    free = outdone_by(entries, reference)
  end
  if free then
    redis.call('HDEL', entries, field)
    redis.call('ZREM', KEYS[1], member)
    redis.call('ZREM', KEYS[2], member)
    redis.call('ZREM', KEYS[3], member)
    if kind == 't' then redis.call('ZREM', tokens, reference) end
    if kind == 'u' then summarize(entries, reference) end
    gone = gone + 1
  end
end
return gone
