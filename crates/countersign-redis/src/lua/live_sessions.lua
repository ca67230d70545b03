-- All sessions of a user and what the log says, from one moment. KEYS: 1 the user's sessions, 2 the user's entries.
return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}
