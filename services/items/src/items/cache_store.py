"""The cache in Valkey: values under leases, and no more than a moment lost when it is not there."""

import asyncio
import hashlib
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from grpc_common import deadline
from grpc_common.valkey_link import ValkeyAwayError, ValkeyLink, ValkeyPausedError, open_link
from items import cache_scripts

LEASE: Final = 2.0
"""Seconds after which a reader that stored nothing counts as dead."""
CHANGE: Final = 15.0
"""Seconds after which a writer that did not end its change counts as dead: longer than any transaction may take."""
MEND_EVERY: Final = 0.05
"""Seconds between two tries to take away what could not be taken away."""
MOST_OWED: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLimits:
    """How many connections there may be; seconds: how long a value is kept, and how long an answer may take."""

    connections: int
    ttl: float
    timeout: float


@dataclass(frozen=True, slots=True)
class Value:
    """The value that is kept."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Lease:
    """There is no value, and whoever has this may store one."""

    token: str


class Leased:
    """There is no value, and somebody else is about to store one."""


class Changing:
    """There is no value, and there shall be none: somebody changes the item."""


class Failed:
    """The cache does not answer, or not as it should."""


class Paused:
    """The cache failed a moment ago and is not asked."""


type Answer = Value | Lease | Leased | Changing | Failed | Paused


class CacheStore:
    """Values by key. No verb raises when Valkey fails: it answers `Failed`, and what could not be taken away there is
    not read here, and is taken away later.
    """

    def __init__(self, link: ValkeyLink, limits: CacheLimits) -> None:
        self._link = link
        self._limits = limits
        script = link.client.register_script
        self._read = script(cache_scripts.READ)
        self._store = script(cache_scripts.STORE)
        self._release = script(cache_scripts.RELEASE)
        self._begin = script(cache_scripts.BEGIN)
        self._end = script(cache_scripts.END)
        self._owed: dict[str, float] = {}
        self._blind_until = 0.0
        self._mending: asyncio.Task[None] | None = None

    async def answers(self) -> bool:
        """Says whether Valkey answers."""
        return await self._link.answers()

    async def read(self, key: str) -> Answer:
        """Returns the value, or the right to store one, or why there is neither."""
        if self._must_not_read(key):
            return Paused()
        token = secrets.token_urlsafe(12)
        answer = await self._ask(lambda: self._read(_keys(key), [token, _milliseconds(LEASE)]))
        match answer:
            case [b"value", bytes(data)]:
                return Value(data)
            case [b"lease"]:
                return Lease(token)
            case [b"leased"]:
                return Leased()
            case [b"changing"]:
                return Changing()
        return answer if isinstance(answer, Failed | Paused) else Failed()

    async def store(self, key: str, lease: Lease, data: bytes) -> bool:
        """Stores the value, unless the item was changed since the lease was given; says whether it did."""
        ttl = self._limits.ttl * random.uniform(0.9, 1)  # noqa: S311  # what is stored at once need not end at once
        stored = await self._ask(lambda: self._store(_keys(key), [lease.token, data, _milliseconds(ttl)]))
        return bool(stored == 1)

    # What follows is not cut short by a caller's deadline: others would wait, or read what is no longer so.

    async def release(self, key: str, lease: Lease) -> None:
        """Lets somebody else store a value."""
        await self._tell(lambda: self._release(_keys(key), [lease.token]))

    async def begin(self, key: str) -> bool:
        """Takes the value away before a change; says whether it did."""
        return await self._tell(lambda: self._begin(_keys(key), [_milliseconds(CHANGE)]))

    async def end(self, key: str) -> None:
        """Takes the value away after a change that was begun."""
        if not await self._tell(lambda: self._end(_keys(key))):
            self._owe([key])

    async def drop(self, keys: Iterable[str]) -> None:
        """Takes the values away after changes that were not begun."""
        keys = list(keys)
        if not await self._drop(keys):
            self._owe(keys)

    async def close(self) -> None:
        """Ends what works in the background."""
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.gather(self._mending, return_exceptions=True)

    async def _drop(self, keys: Sequence[str]) -> bool:
        names = [name for key in keys for name in _keys(key)[:2]]
        return not names or await self._tell(lambda: self._link.client.delete(*names))

    async def _tell(self, command: Callable[[], Awaitable[Any]]) -> bool:
        return not isinstance(await self._run(command, self._limits.timeout), Failed | Paused)

    async def _ask(self, command: Callable[[], Awaitable[Any]]) -> Any:
        return await self._run(command, deadline.remaining(self._limits.timeout) or 0)

    async def _run(self, command: Callable[[], Awaitable[Any]], patience: float) -> Any:
        try:
            return await self._link.ask(command, patience)
        except ValkeyPausedError:
            return Paused()
        except ValkeyAwayError:
            return Failed()

    def _must_not_read(self, key: str) -> bool:
        return monotonic() < self._blind_until or key in self._owed

    def _owe(self, keys: Iterable[str]) -> None:
        """Notes what could not be taken away; nobody need do it any more once it has ended by itself."""
        over = monotonic() + self._limits.ttl + LEASE
        self._owed.update(dict.fromkeys(keys, over))
        if len(self._owed) > MOST_OWED:
            self._owed.clear()
            self._blind_until = over
        if self._owed and (self._mending is None or self._mending.done()):
            self._mending = asyncio.create_task(self._mend(), name="take away what is cached")

    async def _mend(self) -> None:
        while self._owed:
            await asyncio.sleep(max(MEND_EVERY, self._link.paused_for))
            for key, over in list(self._owed.items()):
                if monotonic() > over or await self._drop([key]):
                    self._owed.pop(key, None)
                else:
                    break


@asynccontextmanager
async def open_store(url: str, limits: CacheLimits) -> AsyncIterator[CacheStore]:
    """Yields the cache at `redis://…`, `rediss://…` or `unix://…`, whether or not it answers."""
    async with open_link(url, connections=limits.connections, timeout=limits.timeout, component="cache") as link:
        store = CacheStore(link, limits)
        try:
            yield store
        finally:
            await store.close()


def _keys(key: str) -> list[str]:
    """The keys of an item, in one slot of a cluster; an id may hold what means something there."""
    slot = hashlib.sha256(key.encode()).hexdigest()[:32]
    return [f"items:{{{slot}}}:{what}" for what in ("value", "lease", "changing")]


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
