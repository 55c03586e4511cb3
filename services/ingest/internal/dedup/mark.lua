redis.call('HSET', KEYS[1], 'h', ARGV[1])
local e = redis.call('HMGET', KEYS[1], 'g', 't')
local time = redis.call('TIME')
local age = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(e[2] or 0)
return {e[1] or '', age, string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')}
