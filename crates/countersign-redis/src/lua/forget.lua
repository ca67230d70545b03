-- Deletes all of a user's records of one kind, a hash whose fields are members of a set of all users. Returns how many
-- there were.
local function forget(records, all, user_id)
  local fields = redis.call('HKEYS', records)
  for _, field in ipairs(fields) do redis.call('ZREM', all, user_id .. '\1' .. field) end
  redis.call('DEL', records)
  return #fields
end
