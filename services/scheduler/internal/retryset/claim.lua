-- Leases the members of a slot that are due and says what is next.
--
-- KEYS[1]  the slot: a sorted set of members by due time in Unix milliseconds, and of the two
--          members that hold its epoch, whose scores are negative
-- ARGV[1]  now, Unix milliseconds
-- ARGV[2]  end of the lease, Unix milliseconds
-- ARGV[3]  most members to lease, at most 1000, which bounds the time the script runs
--
-- Returns  {generation, count, next, members}: the epoch as it is now, generation 0 if the
--          slot was never rebuilt; the lowest score that is left, -1 if there is none; the
--          leased members in the order of their due times
--
-- A lease is a due time in the future: a member whose lease ends is simply due again. The
-- count is moved on by every claim, so that no two claims find the same one unless the slot
-- went back in time.
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
return {-tonumber(generation), -tonumber(count), tonumber(next[2] or '-1'), members}
