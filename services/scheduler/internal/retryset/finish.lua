-- Declares a rebuilt slot whole, unless something happened to it since the rebuild began.
--
-- KEYS[1]  the slot
-- KEYS[2]  the slot's lock
-- ARGV[1]  the rebuild's token
-- ARGV[2]  the generation to give the slot
-- ARGV[3]  the highest count that the rebuilding process has seen in the slot
-- ARGV[4]  the process of the server that the rebuild began in
--
-- Returns  the slot's count, or -1 if the slot is not whole: the lock is gone (the slot was
--          flushed, or the rebuild took too long and another replica began one), or the count
--          is lower than one that was seen (the slot was restored from an older state), or
--          this is another process of the server, which may lack what was added meanwhile
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return -1
end
redis.call('DEL', KEYS[2])
local count = -tonumber(redis.call('ZSCORE', KEYS[1], 'count') or '0')
local id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if count < tonumber(ARGV[3]) or tonumber(string.sub(id, 1, 12), 16) + 1 ~= tonumber(ARGV[4]) then
  return -1
end
redis.call('ZADD', KEYS[1], '-' .. ARGV[2], 'generation', '-' .. ARGV[4], 'run')
return count
