-- A mail's place among the others. KEYS of every script: 1 the mails that wait, by when they are due, 2 the dead
-- letters in order.
local function position(since, id) return string.format('%016.0f', since) .. id end

local function take_away(mail, id)
  local since = redis.call('HGET', mail, 'dead_since')
  if since then redis.call('ZREM', KEYS[2], position(since, id)) else redis.call('ZREM', KEYS[1], id) end
end

-- Puts a mail where its state belongs. Before, it is taken away from where it was.
local function put(mail, id, state, time)
  if state == 'waiting' then
    redis.call('HSET', mail, 'next_at', time)
    redis.call('HDEL', mail, 'dead_since')
    redis.call('ZADD', KEYS[1], time, id)
  else
    redis.call('HSET', mail, 'dead_since', time)
    redis.call('HDEL', mail, 'next_at')
    redis.call('ZADD', KEYS[2], 0, position(time, id))
  end
end
