-- LogStanding::allows: neither the log nor the row ends the session, and it has not expired. Epochs have 20 digits,
-- so they compare as texts; times are below 2^53, so they compare as numbers.
local function allows(log, epochs, id, ended, epoch, idle, absolute, now)
  now = tonumber(now)
  if ended ~= '-' or now >= tonumber(idle) or now >= tonumber(absolute) then return false end
  if redis.call('HEXISTS', log, 's' .. id) == 1 then return false end
  local summary = redis.call('HGET', epochs, 'e')
  if summary then
    local highest, except, other = string.match(summary, '^(%d+) (%S+) (%d+)$')
    if not highest then error('an epoch is malformed') end
    if except == id then highest = other end
    if highest > epoch then return false end
  end
  return true
end
