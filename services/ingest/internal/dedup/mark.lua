redis.call('HSET', KEYS[1], 'h', ARGV[1])
local e = redis.call('HMGET', KEYS[1], 'g', 't')
return {e[1] or '', tonumber(e[2] or 0), string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')}
