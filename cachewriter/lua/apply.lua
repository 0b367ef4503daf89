-- Writes the net effect of a batch, or a part of a reconcile: all conditions first, the checkpoint last, so that an error leaves nothing half done.
-- KEYS: meta, teams, tokens, changes, then the hash of each team in the payload.
-- ARGV: owner, epoch, the checkpoint last written, the new checkpoint, commit time, version, reason of a due reconcile, version of a begun reconcile
-- and the schema it fills, payload.
-- The payload is [teams, tokens to take, tokens to give]: a team is [id, mode, version, fields to remove, fields and records to set], tokens are token
-- and team in turn.
-- Returns {'applied' | 'present' | 'fenced', marker, number of teams written}.
local owner, epoch, expected, through, commit_time = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local version, reason, reconciling, schema = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local META, TEAMS, TOKENS, CHANGES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local ok, meta = ours(owner, epoch, expected, through)
if not ok then
  return { 'fenced', '', 0 }
end
if meta.checkpoint ~= expected then
  -- The write was done and its reply lost. This one changes nothing, but gives WAIT a write of this connection to wait for.
  redis.call('HSET', META, 'checkpoint', through)
  return { 'present', meta.reconcile, 0 }
end

local function check(key, want)
  local is = redis.call('TYPE', key).ok
  if is ~= want and is ~= 'none' then
    return redis.error_reply('WRONGTYPE the key ' .. key .. ' is a ' .. is .. ', not a ' .. want)
  end
end
local wrong = check(TEAMS, 'hash') or check(TOKENS, 'hash') or check(CHANGES, 'stream')
for i = 5, #KEYS do
  wrong = wrong or check(KEYS[i], 'hash')
end
if wrong then
  return wrong
end
local last, last_seq = last_id(CHANGES)
if last > tonumber(epoch) or (last == tonumber(epoch) and last_seq > meta.seq) then
  return { 'fenced', '', 0 } -- a stranger's entry; the next epoch lies beyond it
end

-- What differs? Equal records are the rule for updates of columns that are not served.
local payload = cmsgpack.unpack(ARGV[10])
local changed = {}
for i, team in ipairs(payload[1]) do
  local key = KEYS[4 + i]
  local id, mode, removes, sets = team[1], team[2], team[4], team[5]
  local stored = redis.call('HGET', key, '@v')
  if stored ~= redis.call('HGET', TEAMS, id) and reason == '' then
    reason = 'team ' .. id .. ': its key and the list of versions differ'
  end
  local change = { key = key, id = id, gone = mode == 'gone', removes = {}, sets = {} }
  if team[3] == '' then
    change.version = version
  else
    change.version = team[3]
  end
  for _, field in ipairs(removes) do
    if redis.call('HEXISTS', key, field) == 1 then
      table.insert(change.removes, field)
    end
  end
  for j = 1, #sets, 2 do
    if not stored or redis.call('HGET', key, sets[j]) ~= sets[j + 1] then
      table.insert(change.sets, j)
    end
  end
  change.from = sets
  if mode ~= '' or #change.removes > 0 or #change.sets > 0 then
    table.insert(changed, change)
  end
end

-- From here on nothing can fail.
for _, change in ipairs(changed) do
  local key = change.key
  if change.gone then
    redis.call('DEL', key)
  end
  for _, field in ipairs(change.removes) do
    redis.call('HDEL', key, field)
  end
  for _, j in ipairs(change.sets) do
    redis.call('HSET', key, change.from[j], change.from[j + 1])
  end
  if redis.call('HLEN', key) > redis.call('HEXISTS', key, '@v') then
    redis.call('HSET', key, '@v', change.version)
  else
    redis.call('DEL', key)
    change.gone = true
  end
end

local take, give = payload[2], payload[3]
for i = 1, #take, 2 do
  if redis.call('HGET', TOKENS, take[i]) == take[i + 1] then
    redis.call('HDEL', TOKENS, take[i])
  end
end
for i = 1, #give, 2 do
  redis.call('HSET', TOKENS, give[i], give[i + 1])
end

local seq = meta.seq
for _, change in ipairs(changed) do
  if change.gone then
    redis.call('HDEL', TEAMS, change.id)
  else
    redis.call('HSET', TEAMS, change.id, change.version)
  end
  seq = seq + 1
  local id = epoch .. '-' .. digits(seq)
  if commit_time == '' then
    redis.call('XADD', CHANGES, 'MAXLEN', '~', 100000, id, 'team', change.id, 'version', change.version)
  else
    redis.call('XADD', CHANGES, 'MAXLEN', '~', 100000, id, 'team', change.id, 'version', change.version, 'at', commit_time)
  end
end

if seq ~= meta.seq then
  redis.call('HSET', META, 'seq', digits(seq))
end
if reconciling ~= '' and #changed + #take + #give > 0 then
  redis.call('HSET', META, 'reconciling', reconciling)
  redis.call('HSETNX', META, 'schema', schema)
end
if commit_time ~= '' then
  redis.call('HSET', META, 'commit_time', commit_time)
end
mark(meta, reason)
if through ~= expected then
  redis.call('HSET', META, 'checkpoint', through)
end
return { 'applied', meta.reconcile, #changed }
