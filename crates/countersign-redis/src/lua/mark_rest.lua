-- KEYS: 1 the user's sessions, 2 those without a mark. ARGV: 1 epoch, 2 excepted session or -, 3 mark, 4 how many at most.
return mark_ended(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]))
