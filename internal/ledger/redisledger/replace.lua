-- Puts the ledger ARGV[2] into KEYS[1], for ARGV[3] milliseconds, if it still is
-- ARGV[1]; empty is none. Answers with 1 when it was.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
