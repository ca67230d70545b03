-- A page of the trail, newest first. KEYS: 1 the records in order, 2 the records.
-- ARGV: 1 where the page begins, 2 how many records. Returns of each its member and the record.
local found = {}
for _, member in ipairs(redis.call('ZREVRANGEBYLEX', KEYS[1], ARGV[1], '-', 'LIMIT', 0, ARGV[2])) do
  found[#found + 1] = member
  found[#found + 1] = redis.call('HGET', KEYS[2], string.sub(member, 17))
end
return found
