-- Heal::applies and Heal::apply. KEYS: 1 the user's sessions, 2 the user's entries, 3 the user's epochs.
-- ARGV: 1 id, 2 generation, 3 time of issue, 4 heals, 5 now, 6 idle expiry.
local row = redis.call('HGET', KEYS[1], ARGV[1])
if not row then return 0 end
local generation, issued, acknowledged, heals, run, seen, idle, ended, epoch, absolute, fixed, device = parse(row)
if generation ~= ARGV[2] or issued ~= ARGV[3] or heals ~= ARGV[4] or acknowledged ~= '-' then return 0 end
if not allows(KEYS[2], KEYS[3], ARGV[1], ended, epoch, idle, absolute, ARGV[5]) then return 0 end
-- Numbers of 8 bits, so `tostring` writes them exactly.
local function next_after(number) return tostring(math.min(tonumber(number) + 1, 255)) end
if heals == '0' then run = next_after(run) end
redis.call('HSET', KEYS[1], ARGV[1], table.concat({generation, ARGV[5], '-', next_after(heals), run, ARGV[5],
  ARGV[6], '-', epoch, absolute, fixed, device}, ' '))
return 1
