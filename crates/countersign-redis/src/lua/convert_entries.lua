-- From layout 1: moves the user's epochs into a hash of their own, and notes revoked tokens by `until`.
-- KEYS: for each entry the user's entries, epochs and revoked tokens. ARGV: of each the field.
for number = 1, #ARGV do
  local entries, epochs, tokens = KEYS[3 * number - 2], KEYS[3 * number - 1], KEYS[3 * number]
  local field = ARGV[number]
  local value = redis.call('HGET', entries, field)
  if value and string.sub(field, 1, 1) == 't' then
    redis.call('ZADD', tokens, string.match(value, '^%d+'), string.sub(field, 2))
  elseif value and string.sub(field, 1, 1) == 'u' then
    for _, moved in ipairs({'e', field}) do
      local known = redis.call('HGET', entries, moved)
      if known then
        redis.call('HSET', epochs, moved, known)
        redis.call('HDEL', entries, moved)
      end
    end
  end
end
return #ARGV
