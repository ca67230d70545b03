-- KEYS: 1 to 6 as in put.lua.
-- ARGV: 1 field, 2 key, 3 until, 4 at, 5 excepted session or -, 6 channel, 7 who tells; without 6, nobody is told.
put(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
if ARGV[6] then announce(ARGV[6], ARGV[7]) end
return 1
