-- Those of some accounts that a query asks for. KEYS: the accounts. ARGV: 1 `all` or `query`, 2 the query, then of each
-- account the user's id. Returns of each account that is asked for its number and its fields.
local function has(account, field)
  local text = redis.call('HGET', account, field)
  return text and string.find(text, ARGV[2], 1, true)
end

local found = {}
for number, account in ipairs(KEYS) do
  if ARGV[1] == 'all' or ARGV[2 + number] == ARGV[2] or has(account, 'email_key') or has(account, 'username_key') then
    found[#found + 1] = number
    found[#found + 1] = redis.call('HGETALL', account)
  end
end
return found
