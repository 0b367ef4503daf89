-- Shared by all scripts of a leader. KEYS[1] is the meta hash. The fields are those of flagcache.Meta.

-- ours reads meta and reports whether this process still leads: owner and epoch are its own, and the checkpoint is the one it wrote last, or the one
-- of a write whose reply it has not seen. Nothing may be written otherwise: someone else leads, or Redis was emptied, restored or replaced.
local function ours(owner, epoch, expected, unseen)
  local m = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'checkpoint', 'seq', 'reconcile', 'reconciling')
  local meta = { checkpoint = m[3] or '', seq = tonumber(m[4] or '0'), reconcile = m[5] or '', reconciling = m[6] or '' }
  local ok = m[1] == owner and m[2] == epoch and (meta.checkpoint == expected or meta.checkpoint == unseen)
  return ok, meta
end

-- digits prints a number without exponent.
local function digits(n)
  return string.format('%.0f', n)
end

-- last_id returns the two numbers of the stream's last id.
local function last_id(stream)
  if redis.call('EXISTS', stream) == 0 then
    return 0, 0
  end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      local ms, seq = string.match(info[i + 1], '^(%d+)-(%d+)$')
      return tonumber(ms), tonumber(seq)
    end
  end
  return 0, 0
end

-- mark sets the reconcile marker unless there is one: the first reason is the cause of the others. What is marked may lack something, so the cache is
-- not complete.
local function mark(meta, reason)
  if reason ~= '' and meta.reconcile == '' then
    meta.reconcile = reason
    redis.call('HSET', KEYS[1], 'reconcile', reason)
    redis.call('HDEL', KEYS[1], 'complete')
  end
end
