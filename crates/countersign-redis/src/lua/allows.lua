-- LogStanding::allows: neither the log nor the row ends the session, and it has not expired. Epochs have 20 digits,
-- so they compare as texts; times are below 2^53, so they compare as numbers.
local function allows(log, id, ended, epoch, idle, absolute, now)
  now = tonumber(now)
  if ended ~= '-' or now >= tonumber(idle) or now >= tonumber(absolute) then return false end
  local found = redis.call('HMGET', log, 'e', 's' .. id)
  if found[2] then return false end
  if found[1] then
    local highest, except, other = string.match(found[1], '^(%d+) (%S+) (%d+)$')
    if not highest then error('an epoch is malformed') end
    if except == id then highest = other end
    if highest > epoch then return false end
  end
  return true
end
