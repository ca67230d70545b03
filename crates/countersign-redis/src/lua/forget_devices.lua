-- KEYS: 1 the user's devices, 2 all devices by `until`. ARGV: 1 the user's id.
return forget(KEYS[1], KEYS[2], ARGV[1])
