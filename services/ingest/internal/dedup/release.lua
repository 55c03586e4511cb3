local freed = 0
for i, key in ipairs(KEYS) do
  local standing = redis.call('GET', key)
  if standing and string.sub(standing, 2, 10) == 'p' .. ARGV[i] then
    redis.call('DEL', key)
    freed = freed + 1
  end
end
return freed
