local set = 0
for i, key in ipairs(KEYS) do
  local standing = redis.call('GET', key)
  local ours = standing and string.sub(standing, 2, 10) == 'p' .. ARGV[3 * i - 2]
  if ours or not standing then
    redis.call('SET', key, ARGV[3 * i - 1], 'PX', ARGV[3 * i])
    set = set + 1
  end
end
return set
