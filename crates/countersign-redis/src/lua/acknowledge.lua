-- Acknowledgement::applies and Acknowledgement::apply, one after the other; each stands for itself.
-- KEYS: the sessions of a user, one key for each. ARGV: 1 at, then of each the id and the generation.
for number, sessions in ipairs(KEYS) do
  local id, seen_generation = ARGV[2 * number], ARGV[2 * number + 1]
  local row = redis.call('HGET', sessions, id)
  if row then
    local generation, issued, acknowledged, heals, run, seen, idle, ended, epoch, absolute, fixed, device =
      parse(row)
    if generation == seen_generation and acknowledged == '-' then
      if tonumber(seen) < tonumber(ARGV[1]) then seen = ARGV[1] end
      redis.call('HSET', sessions, id, table.concat({generation, issued, ARGV[1], heals, run, seen, idle, ended,
        epoch, absolute, fixed, device}, ' '))
    end
  end
end
return 1
