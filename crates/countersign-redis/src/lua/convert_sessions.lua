-- From layout 1: notes which sessions have no mark. KEYS: for each session the user's sessions and those without a mark.
-- ARGV: of each the id.
for number = 1, #ARGV do
  local row = redis.call('HGET', KEYS[2 * number - 1], ARGV[number])
  if row and not is_ended(row) then
    local _, _, _, _, _, _, _, _, _, _, fixed = parse(row)
    redis.call('ZADD', KEYS[2 * number], string.match(fixed, '^%S+'), ARGV[number])
  end
end
return #ARGV
