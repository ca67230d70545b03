-- KEYS: 1 the store's description. ARGV: 1 the least number, below 2^63. Returns the number as text.
-- Numbers are compared as texts, because a number here is exact only up to 2^53.
redis.call('HINCRBY', KEYS[1], 'user_number', 1)
local number = redis.call('HGET', KEYS[1], 'user_number')
if #number < #ARGV[1] or (#number == #ARGV[1] and number < ARGV[1]) then
  number = ARGV[1]
  redis.call('HSET', KEYS[1], 'user_number', number)
end
return number
