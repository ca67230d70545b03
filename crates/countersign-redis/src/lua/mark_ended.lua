-- Marks the oldest sessions of a user that a raised epoch has ended; returns how many.
local function mark_ended(sessions, live, number, except, mark, most)
  local done, passed_over = 0, 0
  while done < most do
    local ids = redis.call('ZRANGE', live, passed_over, passed_over + most - done - 1)
    if #ids == 0 then break end
    for _, id in ipairs(ids) do
      local row = redis.call('HGET', sessions, id)
      local _, _, _, _, _, _, _, ended, epoch = parse(row)
      if id ~= except and epoch < number and ended == '-' then
        redis.call('HSET', sessions, id, marked(row, mark))
        redis.call('ZREM', live, id)
        done = done + 1
      else
        passed_over = passed_over + 1
      end
    end
  end
  return done
end
