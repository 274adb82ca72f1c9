-- Returns the epoch, a name that lives as long as the data of this Redis, and Redis's
-- clock. KEYS[1] is the epoch. ARGV: the name for a new epoch and its TTL in
-- milliseconds.
redis.call('SET', KEYS[1], ARGV[1], 'NX')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]), time[1], time[2]}
