-- Answers with the ledger in KEYS[1], empty when there is none, and the clock.
local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]) or '', time[1], time[2]}
