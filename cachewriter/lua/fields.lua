-- Pages through a team's hash and returns the cursor, then the fields, without their records: HKEYS of a team with a million fields would be one reply.
-- KEYS: the team. ARGV: cursor.
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 5000)
local reply = { page[1] }
for i = 1, #page[2], 2 do
  reply[#reply + 1] = page[2][i]
end
return reply
