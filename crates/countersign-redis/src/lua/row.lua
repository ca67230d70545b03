-- A session's row: mutable fields first, then what never changes, then the device (`row.rs`).
local function parse(row)
  local generation, issued, acknowledged, heals, run, seen, idle, ended, epoch, absolute, fixed, device =
    string.match(row,
      '^(%d+) (%d+) (%S+) (%d+) (%d+) (%d+) (%d+) (%S+) (%d+) (%d+) (%S+ %S+) (.*)$')
  if not generation then error('a session is malformed') end
  return generation, issued, acknowledged, heals, run, seen, idle, ended, epoch, absolute, fixed, device
end

local function is_ended(row)
  local _, _, _, _, _, _, _, ended = parse(row)
  return ended ~= '-'
end

local function marked(row, mark)
  local generation, issued, acknowledged, heals, run, seen, idle, _, epoch, absolute, fixed, device = parse(row)
  return table.concat({generation, issued, acknowledged, heals, run, seen, idle, mark, epoch, absolute, fixed,
    device}, ' ')
end
