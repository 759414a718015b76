"""Commands to a Valkey that may be away, without waiting for it each time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Final

import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from grpc_common.errors import ExternalServiceError

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds in which Valkey is not asked after a failure; each failure that follows doubles them."""


class ValkeyAwayError(ExternalServiceError):
    """Valkey does not answer, or not as it should."""


class ValkeyPausedError(ValkeyAwayError):
    """Valkey failed a moment ago and was not asked."""


class ValkeyLink:
    """The way to one Valkey, for at most `connections` commands at once, each of `timeout` seconds.

    After a failure nobody waits for it until a pause is over; then one tries, and the others still do not wait. That
    it fails and that it answers again is logged once each, as `component`.
    """

    def __init__(self, client: Redis, *, connections: int, timeout: float, component: str) -> None:
        self.client: Final = client
        self.timeout: Final = timeout
        self._free = asyncio.Semaphore(connections)
        self._pause = 0.0
        self._paused_until = 0.0
        self._failed_at = 0.0
        self._log = structlog.get_logger(component=component)

    @property
    def paused_for(self) -> float:
        """Seconds until it may be asked again; 0 or less when it may."""
        return self._paused_until - monotonic()

    async def ask[T](self, command: Callable[[], Awaitable[T]], patience: float | None = None) -> T:
        """Return what `command` does, in at most `patience` seconds.

        A caller with less patience than `timeout` tells nothing about Valkey when it runs out of it.

        Raises:
            ValkeyPausedError: it was not asked.
            ValkeyAwayError: it failed, or was too slow.
        """
        limit = self.timeout if patience is None else min(patience, self.timeout)
        async with self._free:
            now = monotonic()
            if now < self._paused_until:
                raise ValkeyPausedError("Valkey is away")
            if self._pause:
                self._paused_until = now + limit  # one tries, the others do not wait for it
            try:
                async with asyncio.timeout(limit):
                    answer = await command()
            except (RedisError, OSError, TimeoutError) as error:
                if limit >= self.timeout or not isinstance(error, TimeoutError):  # else the caller's fault
                    self._fail(error, began=now)
                raise ValkeyAwayError("Valkey is away") from None
            self._answered()
            return answer

    async def answers(self) -> bool:
        """Say whether Valkey answers, for a check of health."""
        return bool(await self.client.ping())

    def _fail(self, error: Exception, began: float) -> None:
        if began < self._failed_at:  # many at once are one failure
            return
        self._failed_at = monotonic()
        if not self._pause:
            self._log.warning("Valkey fails: going on without it", reason=str(error) or type(error).__name__)
        self._pause = min(self._pause * 2 or FIRST_PAUSE, LONGEST_PAUSE)
        self._paused_until = self._failed_at + self._pause

    def _answered(self) -> None:
        if self._pause:
            self._log.info("Valkey answers again")
        self._pause = self._paused_until = 0.0


@asynccontextmanager
async def open_link(url: str, *, connections: int, timeout: float, component: str) -> AsyncIterator[ValkeyLink]:  # noqa: ASYNC109
    """Yield the link to `redis://…`, `rediss://…` or `unix://…`, whether or not anybody answers there."""
    options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    # One more than there are commands at once: the check of health must not take the place of one, nor wait for one.
    pool = ConnectionPool.from_url(url, max_connections=connections + 1, retry=Retry(NoBackoff(), 0), **options)
    try:
        async with Redis(connection_pool=pool) as client:
            yield ValkeyLink(client, connections=connections, timeout=timeout, component=component)
    finally:
        await pool.disconnect()
