-- Makes the keys in which teams are staged, with an end, so that a crash leaves nothing for ever. The records follow as plain commands.
-- KEYS: those keys. ARGV: seconds until the end, then the version of each team. Returns {'staged'}.
for i = 1, #KEYS do
  redis.call('HSET', KEYS[i], '@v', ARGV[1 + i])
  redis.call('EXPIRE', KEYS[i], ARGV[1])
end
return { 'staged' }
