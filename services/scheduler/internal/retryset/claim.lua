-- Leases the members of a slot that are due and says what is next.
--
-- KEYS[1]  the slot: a sorted set of members by due time in Unix milliseconds, and of the three
--          members that hold its epoch, whose scores are negative
-- ARGV[1]  now, Unix milliseconds
-- ARGV[2]  end of the lease, Unix milliseconds
-- ARGV[3]  most members to lease, at most 1000, which bounds the time the script runs
--
-- Returns  {generation, count, next, sound, time, members}: the epoch as it is now, generation 0
--          if the slot was never rebuilt; the lowest score that is left, -1 if there is none; 1
--          if this process of the server is the one that the slot was rebuilt in, else 0; the
--          server's time in microseconds; the leased members in the order of their due times
--
-- A lease is a due time in the future: a member whose lease ends is simply due again. The
-- count is moved on by every claim, so that no two claims find the same one unless the slot
-- went back in time. That does not show what a server lost that had the last claim and not what
-- was added after it: a replica that was promoted, or a server that was started again. So the
-- slot also says which process of a server it was rebuilt in.
local members = redis.call('ZRANGE', KEYS[1], 0, ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[3])
if #members > 0 then
  local leases = {}
  for i, member in ipairs(members) do
    leases[2 * i - 1] = ARGV[2]
    leases[2 * i] = member
  end
  redis.call('ZADD', KEYS[1], 'XX', unpack(leases))
end
local count = redis.call('ZINCRBY', KEYS[1], -1, 'count')
local generation = redis.call('ZSCORE', KEYS[1], 'generation') or '0'
local next = redis.call('ZRANGE', KEYS[1], 0, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
local id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local run = tonumber(string.sub(id, 1, 12), 16) + 1
local sound = -tonumber(redis.call('ZSCORE', KEYS[1], 'run') or '0') == run
local time = redis.call('TIME')
return {-tonumber(generation), -tonumber(count), tonumber(next[2] or '-1'), sound and 1 or 0,
  time[1] * 1000000 + time[2], members}
