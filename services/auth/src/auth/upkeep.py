"""Forgets what nobody needs any more: sessions that cannot be carried on, and that they were taken back."""

import asyncio
import time
from collections.abc import Callable

import structlog

from auth.family import Families
from auth.sql_revocations import SqlRevocations
from grpc_common.errors import AppException

FORGOTTEN_AT_ONCE = 1_000


class Upkeep:
    """Keeps both tables bounded; `idle` is how many seconds a session lives unused, `clock` gives Unix seconds."""

    def __init__(
        self,
        families: Families,
        revocations: SqlRevocations,
        idle: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._families = families
        self._revocations = revocations
        self._idle = idle
        self._clock = clock
        self._log = structlog.get_logger(component="upkeep")

    async def run(self, interval: float) -> None:
        """Forget all that is due every `interval` seconds, for ever."""
        while True:
            try:
                await self.once()
            except AppException as error:
                self._log.warning("upkeep failed", reason=error.message)
            await asyncio.sleep(interval)

    async def once(self) -> None:
        """Forget all that is due."""
        while await self._families.forget(self._clock() - self._idle, FORGOTTEN_AT_ONCE) == FORGOTTEN_AT_ONCE:
            pass
        while await self._revocations.forget(FORGOTTEN_AT_ONCE) == FORGOTTEN_AT_ONCE:
            pass
