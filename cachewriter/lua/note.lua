-- Checks that this process leads and writes to meta alone. KEYS: meta. ARGV: owner, epoch, the checkpoint last written, one whose write was not
-- confirmed, '1' to show that the leader is at work or '2' to write the heartbeat too, reason of a due reconcile, then fields and values of meta.
-- Returns {'noted' | 'fenced', marker, name of the last step of a reconcile}.
local ok, meta = ours(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
if not ok then
  return { 'fenced', '', '' }
end
if ARGV[5] ~= '0' then
  local t = redis.call('TIME')
  local now = digits(t[1] * 1000 + math.floor(t[2] / 1000))
  redis.call('HSET', KEYS[1], 'beat', now)
  if ARGV[5] == '2' then
    redis.call('HSET', KEYS[1], 'heartbeat', now)
  end
end
for i = 7, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
mark(meta, ARGV[6])
return { 'noted', meta.reconcile, meta.reconciling }
