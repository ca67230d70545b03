-- KEYS: 1 the store's description. ARGV: 1 the layout of this program, 2 whether an empty store is set up.
-- Returns the layout, the mark of this set of data, and a number that no other handle has.
local layout = redis.call('HGET', KEYS[1], 'layout')
if not layout and ARGV[2] == 'yes' then
  local time = redis.call('TIME')
  layout = ARGV[1]
  redis.call('HSET', KEYS[1], 'layout', layout, 'mark', time[1] .. '.' .. time[2])
end
if layout ~= ARGV[1] then return {layout or '', '', 0} end
return {layout, redis.call('HGET', KEYS[1], 'mark') or '', redis.call('HINCRBY', KEYS[1], 'handles', 1)}
