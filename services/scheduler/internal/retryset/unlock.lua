-- Gives a lock up.
--
-- KEYS[1]  the lock
-- ARGV[1]  the holder's token
--
-- Returns  1, or 0 if the lock is not the holder's any more
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
