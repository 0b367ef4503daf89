-- Ends an exact reconcile: the cache is complete as of the new checkpoint. KEYS: meta, changes. ARGV: owner, epoch, the checkpoint last written, the new
-- checkpoint, version, mark, name of the last step, then fields and values of meta. Returns {'finished' | 'fenced'}.
local ok, meta = ours(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
if not ok or meta.reconciling ~= ARGV[7] then
  return { 'fenced' }
end
local is = redis.call('TYPE', KEYS[2]).ok
if is ~= 'stream' and is ~= 'none' then
  return redis.error_reply('WRONGTYPE the key ' .. KEYS[2] .. ' is a ' .. is .. ', not a stream')
end
local last, last_seq = last_id(KEYS[2])
if last > tonumber(ARGV[2]) or (last == tonumber(ARGV[2]) and last_seq > meta.seq) then
  return { 'fenced' }
end
local seq = digits(meta.seq + 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, ARGV[2] .. '-' .. seq, 'mark', ARGV[6], 'version', ARGV[5])
for i = 8, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('HDEL', KEYS[1], 'reconcile', 'reconciling')
redis.call('HSET', KEYS[1], 'seq', seq, 'complete', '1', 'checkpoint', ARGV[4])
return { 'finished' }
