"""Forgets what nobody needs any more."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.database.deletion import delete_some
from grpc_common.database.driver_errors import translated_errors
from grpc_common.errors import AppException
from items.changes import ChangeLog
from items.table import REQUESTS

FORGOTTEN_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How long changes and request ids are kept, and how many changes at most."""

    changes: timedelta
    changes_most: int
    requests: timedelta


class Upkeep:
    """Keeps the tables of changes and of requests bounded, in small steps, whoever else does so at the same time."""

    def __init__(self, engine: AsyncEngine, log: ChangeLog, kept: Kept, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._log = log
        self._kept = kept
        self._clock = clock
        self._events = structlog.get_logger(component="upkeep")

    async def run(self, interval: float) -> None:
        """Does what is to be done every `interval` seconds, for ever."""
        while True:
            try:
                await self.once()
            except AppException as error:
                self._events.warning("upkeep failed", reason=error.message)
            await asyncio.sleep(interval)

    async def once(self) -> None:
        """Forgets all that is due. A change that nobody watched for is put in order first: only then it can go."""
        while await self._log.place():
            pass
        while await self._log.trim(self._clock() - self._kept.changes, self._kept.changes_most):
            pass
        while await self._forget_requests(self._clock() - self._kept.requests):
            pass

    async def _forget_requests(self, before: datetime) -> int:
        with translated_errors():
            async with self._engine.begin() as connection:
                return await delete_some(connection, REQUESTS, REQUESTS.c.created_at < before, FORGOTTEN_AT_ONCE)
