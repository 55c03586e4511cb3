-- Begins a rebuild of a slot, unless another replica is at it.
--
-- KEYS[1]  the slot
-- KEYS[2]  the slot's lock
-- ARGV[1]  a token that is this rebuild's alone
-- ARGV[2]  how long the lock lasts without being extended, in milliseconds
--
-- Returns  {time, count, run}: the server's time in microseconds, which becomes the slot's
--          generation, the slot's count, and a number that this process of the server has for
--          itself; {0, 0, 0} if another replica holds the lock
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return {0, 0, 0}
end
local time = redis.call('TIME')
local count = redis.call('ZSCORE', KEYS[1], 'count') or '0'
local id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
return {time[1] * 1000000 + time[2], -tonumber(count), tonumber(string.sub(id, 1, 12), 16) + 1}
