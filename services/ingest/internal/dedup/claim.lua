local standing = redis.call('GET', KEYS[1])
if standing and (#standing < 58 or string.byte(standing, 1) ~= 1) then
  return {0, standing, 0} -- of a version that this script does not know
end
local fresh = ARGV[1]
local finished = standing and string.sub(standing, 2, 2) == 'f'
if not standing or (finished and string.sub(standing, 11, 18) ~= string.sub(fresh, 11, 18)) then
  redis.call('SET', KEYS[1], fresh, 'PX', ARGV[2])
  return {1, fresh, tonumber(ARGV[2])}
end
if finished then
  return {0, standing, 0}
end
local left = redis.call('PTTL', KEYS[1])
if string.sub(standing, 3, 10) == string.sub(fresh, 3, 10) then
  local same = string.sub(standing, 35, 50) == string.sub(fresh, 35, 50)
  return {same and 1 or 2, standing, left} -- ours already: an answer was lost
end
if left > struct.unpack('>I4', standing, 51) then
  return {0, standing, left}
end
local taken = string.sub(fresh, 1, 34) .. string.sub(standing, 35, 50)
  .. struct.pack('>I4', math.max(left - tonumber(ARGV[3]), 0)) .. string.sub(standing, 55)
redis.call('SET', KEYS[1], taken, 'KEEPTTL')
return {2, taken, left}
