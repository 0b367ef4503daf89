-- Writes the net effect of a batch, or a part of a reconcile: all conditions first, the checkpoint last, so that an error leaves nothing half done.
-- KEYS: meta, teams, tokens, changes, then the hash of each team in the payload, then what was staged for those of them that the cache lacks.
-- ARGV: owner, epoch, the checkpoint last written, the new checkpoint, commit time, version, reason of a due reconcile, of a step of a reconcile its name,
-- that of the step before and the schema that it fills, payload, then the records. Redis hashes every byte of a string that Lua sees: records come as they are, once.
-- The payload is [teams, tokens to take, tokens to give]: a team is [id, mode, version, number of fields to remove, '@v' and fields to remove and fields to
-- set], and each field to set takes the next record. One that was staged is [id, 'staged', version, number of its fields]. Tokens are token and team in turn.
-- Returns {'applied' | 'present' | 'fenced', marker, number of teams written}.
local owner, epoch, expected, through, commit_time = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local version, reason, reconciling, before, schema = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local META, TEAMS, TOKENS, CHANGES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local ok, meta = ours(owner, epoch, expected, through)
if not ok or (reconciling ~= '' and meta.reconciling ~= before) then
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
if wrong then
  return wrong
end
local last, last_seq = last_id(CHANGES)
if last > tonumber(epoch) or (last == tonumber(epoch) and last_seq > meta.seq) then
  return { 'fenced', '', 0 } -- a stranger's entry; the next epoch lies beyond it
end

-- A command takes at most CHUNK fields at a time: what unpack can return is limited.
local CHUNK = 200

-- each calls a command with a key and a list, piece by piece; the list is of fields, or of fields and values in turn.
local function each(command, key, list)
  for from = 1, #list, CHUNK do
    redis.call(command, key, unpack(list, from, math.min(from + CHUNK - 1, #list)))
  end
end

-- read returns the values of fields in the order of the list.
local function read(key, list)
  if #list <= CHUNK then
    return redis.call('HMGET', key, unpack(list))
  end
  local values = {}
  for from = 1, #list, CHUNK do
    local piece = redis.call('HMGET', key, unpack(list, from, math.min(from + CHUNK - 1, #list)))
    for i = 1, #piece do
      values[from + i - 1] = piece[i]
    end
  end
  return values
end

-- What differs? Equal records are the rule for updates of columns that are not served.
local payload = cmsgpack.unpack(ARGV[11])
local teams, take, give = payload[1], payload[2], payload[3]
local ids = {}
for i = 1, #teams do
  ids[i] = teams[i][1]
end
local listed = {}
if #ids > 0 then
  listed = read(TEAMS, ids)
end
local changed, record, staged = {}, 11, 4 + #teams
for i = 1, #teams do
  local key, team = KEYS[4 + i], teams[i]
  local mode = team[2]
  if mode == 'staged' then
    staged = staged + 1
    if redis.call('HLEN', KEYS[staged]) ~= team[4] then
      return { 'fenced', '', 0 } -- Redis has lost what it has confirmed, or a part of it: who knows what else
    end
    changed[#changed + 1] = { key = key, from = KEYS[staged], id = ids[i], removes = {}, sets = {}, version = team[3] }
  else
    local removes, names = team[4], team[5]
    local ok, stored = pcall(read, key, names)
    if not ok then
      return check(key, 'hash') or redis.error_reply('ERR reading ' .. key)
    end
    if stored[1] ~= listed[i] and reason == '' then
      reason = 'team ' .. ids[i] .. ': its key and the list of versions differ'
    end
    local gone, sets, n = {}, {}, 0
    for j = 2, 1 + removes do
      if stored[j] then
        gone[#gone + 1] = names[j]
      end
    end
    for j = 2 + removes, #names do
      record = record + 1
      local value = ARGV[record]
      if stored[j] ~= value then
        sets[n + 1], sets[n + 2] = names[j], value
        n = n + 2
      end
    end
    if mode ~= '' or n > 0 or #gone > 0 then
      changed[#changed + 1] = {
        key = key, id = ids[i], gone = mode == 'gone', removes = gone, sets = sets, version = team[3] ~= '' and team[3] or version,
      }
    end
  end
end

-- From here on nothing can fail.
local versions, left = {}, {}
for i = 1, #changed do
  local change = changed[i]
  local key, sets = change.key, change.sets
  if change.gone then
    redis.call('DEL', key)
  end
  each('HDEL', key, change.removes)
  if change.from then
    redis.call('RENAME', change.from, key)
    redis.call('PERSIST', key)
  elseif #sets > 0 then
    sets[#sets + 1] = '@v'
    sets[#sets + 1] = change.version
    each('HSET', key, sets)
  elseif redis.call('HLEN', key) > redis.call('HEXISTS', key, '@v') then
    redis.call('HSET', key, '@v', change.version)
  else
    redis.call('DEL', key)
    change.gone = true
  end
  if change.gone then
    left[#left + 1] = change.id
  else
    versions[#versions + 1] = change.id
    versions[#versions + 1] = change.version
  end
end

for i = 1, #take, 2 do
  if redis.call('HGET', TOKENS, take[i]) == take[i + 1] then
    redis.call('HDEL', TOKENS, take[i])
  end
end
each('HSET', TOKENS, give)

each('HDEL', TEAMS, left)
each('HSET', TEAMS, versions)
local seq = meta.seq
for i = 1, #changed do
  local change = changed[i]
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
if reconciling ~= '' then
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
