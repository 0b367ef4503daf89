-- Takes leadership: from here on no script of a former leader can write. KEYS: meta, changes. ARGV: owner. Returns the epoch.
local t = redis.call('TIME')
local epoch = t[1] * 1000 + math.floor(t[2] / 1000)
epoch = math.max(epoch, tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') + 1)

-- Stream ids never go back. If the meta hash was lost and the clock set back, the stream still knows; an id beyond any clock was added by a stranger.
local last = last_id(KEYS[2])
if last >= 1e15 then
  redis.call('DEL', KEYS[2])
elseif last >= epoch then
  epoch = last + 1
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', digits(epoch), 'seq', '0')
return digits(epoch)
