"""What is done in Valkey in one step; commands of Redis 7.0 and older only.

Of an item there are three keys, in one slot: its value; the lease of whoever reads it from the database to store it;
the number of writers that are changing it. A value is stored only under a lease that still stands. Every change takes
the value and the lease away after its commit: who read before it has no lease any more, who gets one later reads what
was committed. While a writer is known to be at work nobody gets a lease: if it dies between its commit and taking the
value away, there is no value to take away.
"""

from typing import Final

READ: Final = """
local value = redis.call('GET', KEYS[1])
if value then return {'value', value} end
if redis.call('EXISTS', KEYS[3]) == 1 then return {'changing'} end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {'lease'} end
return {'leased'}
"""
"""Takes a lease's token and its milliseconds; returns the value, or the lease, or why there is neither."""

STORE: Final = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
"""Takes the lease's token, the value and its milliseconds; returns 1 when the lease still stood."""

RELEASE: Final = """
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
"""
"""Takes the token of a lease that is not used."""

BEGIN: Final = """
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('INCR', KEYS[3])
redis.call('PEXPIRE', KEYS[3], ARGV[1])
"""
"""Before a change: takes the milliseconds after which a writer that did not end it counts as dead."""

END: Final = """
redis.call('DEL', KEYS[1], KEYS[2])
if redis.call('DECR', KEYS[3]) <= 0 then redis.call('DEL', KEYS[3]) end
"""
"""After a change."""
