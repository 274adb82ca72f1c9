-- Removes names from the index KEYS[1] that were entered before ARGV[1]. The names are
-- the other ARGV.
for i = 2, #ARGV do
  local entered = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if entered and tonumber(entered) < tonumber(ARGV[1]) then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return 0
