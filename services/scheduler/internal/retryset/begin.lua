-- Begins a rebuild of a slot, unless another replica is at it.
--
-- KEYS[1]  the slot
-- KEYS[2]  the slot's lock
-- ARGV[1]  a token that is this rebuild's alone
-- ARGV[2]  how long the lock lasts without being extended, in milliseconds
--
-- Returns  {time, count}: the server's time in microseconds, which becomes the slot's
--          generation, and the slot's count; {0, 0} if another replica holds the lock
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return {0, 0}
end
local time = redis.call('TIME')
local count = redis.call('ZSCORE', KEYS[1], 'count') or '0'
return {time[1] * 1000000 + time[2], -tonumber(count)}
