"""What the login guard does in Valkey in one step; commands of Redis 7.0 and older only.

Of an account there are, in one slot: the tries in a row that were not right, or not yet; the same for each address of
its own and each session; and until when an address is one. Of an address, in other slots: its bucket for users and the
one for clients. Every key expires some time after
it has stopped to matter; whether it matters is seen by the times in it. All scripts take the time as their first
argument, in Unix seconds, or nothing for the time of Valkey, which is the same for all who ask.
"""

from typing import Final

_NOW: Final = """
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function exactly(number) return string.format('%.17g', number) end
"""

_TRIES: Final = (
    _NOW
    + """
local forgotten, failures, pause, longest = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local scope = KEYS[1]
local at_home = tonumber(redis.call('GET', KEYS[3]) or 0) > now
if at_home or ARGV[7] == 'session' then scope = KEYS[2] end
local kept = redis.call('HMGET', scope, 'tries', 'at', 'judged')
local tries, at, judged = tonumber(kept[1] or 0), tonumber(kept[2] or 0), kept[3] == '1'
if now - at >= forgotten then tries, at, judged = 0, now, false end
local function keep(tries, at, judged)
  redis.call('HSET', scope, 'tries', tries, 'at', exactly(at), 'judged', judged and '1' or '0')
  redis.call('PEXPIRE', scope, ARGV[6])
end
"""
)
"""Takes the tries of the account or, where that address is one of its own, of the address, or of the session; ARGV: the
limits, the milliseconds to keep what is kept, and whether it is a session."""

AT_HOME: Final = _TRIES + "return at_home and 1 or 0"
"""Returns whether the address is one of the account's own."""

ENTER: Final = (
    _TRIES
    + """
local held_up = 0
if tries >= failures then held_up = math.min(longest, pause * 2 ^ math.min(tries - failures, 64)) end
if now - at < held_up then return judged and 'locked' or 'busy' end
keep(tries + 1, now, false)
return 'open'
"""
)
"""Returns whether the account is open, locked, or busy: it had all its tries and the last one is not judged."""

FAILED: Final = _TRIES + "if tries >= failures then keep(tries, at, true) end"

UNDECIDED: Final = (
    _TRIES
    + """
if tries > 1 then keep(tries - 1, at, true) else redis.call('DEL', scope) end
return at_home and 1 or 0
"""
)
"""Returns whether the address is one of the account's own."""

_RECOGNISED: Final = """
if ARGV[8] ~= '' then
  redis.call('SET', KEYS[3], exactly(now + tonumber(ARGV[8])), 'PX', ARGV[9])
end
return at_home and 1 or 0
"""

RECOGNISED: Final = _TRIES + _RECOGNISED

SUCCEEDED: Final = _TRIES + "redis.call('DEL', scope)" + _RECOGNISED
"""Both return whether the address was one of the account's own before. They take, besides, for how many seconds it is
one from then on, or nothing where there is none; and the milliseconds to keep that."""

_BUCKET: Final = (
    _NOW
    + """
local rate, burst = tonumber(ARGV[2]), tonumber(ARGV[3])
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'when')
local function keep(tokens, when)
  redis.call('HSET', KEYS[1], 'tokens', exactly(tokens), 'when', exactly(when))
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
"""
)
"""Takes tokens a second, the most tokens, and the milliseconds to keep what is kept."""

TAKE: Final = (
    _BUCKET
    + """
local tokens = tonumber(kept[1] or burst)
tokens = math.min(burst, tokens + (now - tonumber(kept[2] or now)) * rate)
if tokens < 1 - 0.000001 then return exactly((1 - tokens) / rate) end
keep(tokens - 1, now)
return '0'
"""
)
"""Takes a token and returns 0, or takes none and returns the seconds until there is one."""

GIVE: Final = _BUCKET + "if kept[1] then keep(kept[1] + 1, kept[2]) end"
"""Puts a token back."""
