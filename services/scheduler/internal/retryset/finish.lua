-- Declares a rebuilt slot whole, unless something happened to it since the rebuild began.
--
-- KEYS[1]  the slot
-- KEYS[2]  the slot's lock
-- ARGV[1]  the rebuild's token
-- ARGV[2]  the generation to give the slot
-- ARGV[3]  the highest count that the rebuilding process has seen in the slot
--
-- Returns  the slot's count, or -1 if the slot is not whole: the lock is gone (the slot was
--          flushed, or the rebuild took too long and another replica began one), or the count
--          is lower than one that was seen (the slot was restored from an older state)
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return -1
end
redis.call('DEL', KEYS[2])
local count = -tonumber(redis.call('ZSCORE', KEYS[1], 'count') or '0')
if count < tonumber(ARGV[3]) then
  return -1
end
redis.call('ZADD', KEYS[1], '-' .. ARGV[2], 'generation')
return count
