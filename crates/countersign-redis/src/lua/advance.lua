-- Advance::applies and Advance::apply. KEYS: 1 the user's sessions, 2 the user's entries, 3 the user's epochs.
-- ARGV: 1 id, 2 from, 3 to, 4 now, 5 idle expiry, 6 device, 7 guard, 8 and 9 its parameters.
local row = redis.call('HGET', KEYS[1], ARGV[1])
if not row then return false end
local generation, issued, acknowledged, heals, run, seen, idle, ended, epoch, absolute, fixed = parse(row)
if generation ~= ARGV[2] then return false end
if not allows(KEYS[2], KEYS[3], ARGV[1], ended, epoch, idle, absolute, ARGV[4]) then return false end
if ARGV[7] == 'issued_at' then
  if issued ~= ARGV[8] then return false end
elseif ARGV[7] == 'outside_reserve' then
  -- Sums beyond 2^53 need no cap: a session that has not expired has a `now` below that.
  local from, now = tonumber(issued), tonumber(ARGV[4])
  if generation ~= '0' and from - tonumber(ARGV[8]) <= now and now < from + tonumber(ARGV[9]) then
    return false
  end
end
if heals == '0' then run = '0' end
local until_idle = ARGV[5]
if tonumber(absolute) < tonumber(until_idle) then until_idle = absolute end
local stepped = table.concat({ARGV[3], ARGV[4], '-', '0', run, ARGV[4], until_idle, '-', epoch, absolute, fixed,
  ARGV[6]}, ' ')
redis.call('HSET', KEYS[1], ARGV[1], stepped)
return stepped
