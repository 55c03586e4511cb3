local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if run ~= ARGV[2] or redis.call('HGET', KEYS[1], 'h') ~= ARGV[1] then
  return 0
end
local time = redis.call('TIME')
local covered = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 'g', ARGV[3], 't', covered, 'r', run)
redis.call('HDEL', KEYS[1], 'h')
return redis.call('HINCRBY', KEYS[1], 'c', 1)
