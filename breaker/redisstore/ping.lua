-- Answers with the epoch, a name that lives as long as what this Redis holds, and
-- with Redis's clock. KEYS[1] is the epoch. ARGV: a name for a new one, and for
-- how long to keep it, in milliseconds.
redis.call('SET', KEYS[1], ARGV[1], 'NX')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]), time[1], time[2]}
