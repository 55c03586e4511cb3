local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local e = redis.call('HMGET', KEYS[1], 'g', 'c', 'r')
if not e[1] then
  return {'', 0, 0}
end
if e[3] ~= run then
  return {e[1], tonumber(e[2]), 0}
end
if e[1] == ARGV[1] and tonumber(e[2]) >= tonumber(ARGV[2]) then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 't', time[1] * 1000 + math.floor(time[2] / 1000))
  return {e[1], redis.call('HINCRBY', KEYS[1], 'c', 1), 1}
end
return {e[1], tonumber(e[2]), 1}
