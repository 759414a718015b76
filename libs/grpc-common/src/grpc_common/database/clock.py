"""The clock of the database, which is one for all replicas of a service."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import structlog
from sqlalchemy import Float, cast, func, select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql import Executable

from grpc_common.background import background
from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.reader import Reader
from grpc_common.errors import AppException

READ_EVERY: Final = 60.0
SAMPLES: Final = 3
APART: Final = 5.0
"""Seconds that this machine's clock may be off before it is told."""
UNSURE: Final = 0.1
"""Seconds of round trip from which a reading says less than the one before it."""

_STEADY: Final = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
"""A clock that goes on while the machine sleeps, where there is one."""

_NOW: Final = {
    "postgresql": select(cast(func.extract("epoch", func.clock_timestamp()), Float)),
    "sqlite": select((func.julianday("now") - 2440587.5) * 86400.0),
}


class DatabaseClock:
    """Gives Unix seconds as the database has them, without asking it.

    It is read now and then, and this process' monotonic clock goes on from there: what the machine's own clock says, or
    is set to meanwhile, does not matter. A reading is wrong by at most half of its round trip (Cristian, 1989); of
    several, that of the shortest counts, and none that took long. `local` gives the machine's Unix seconds,
    `monotonic` seconds since whenever.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        local: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = _STEADY,
    ) -> None:
        self._reader = Reader(engine)
        self._now: Executable = _NOW[engine.dialect.name]
        self._local = local
        self._monotonic = monotonic
        self._ahead = local() - monotonic()
        self._is_read = False
        self._apart = False
        self._log = structlog.get_logger(component="clock")

    def __call__(self) -> float:
        """Return Unix seconds; those of this machine until the database has been read."""
        return self._monotonic() + self._ahead

    async def read(self) -> None:
        """Set the clock.

        Raises:
            DatabaseError: the database refuses.
            ExternalServiceError: it cannot be reached, or does not answer in time.
        """
        took, ahead = min([await self._sample() for _ in range(SAMPLES)])
        if took < UNSURE or not self._is_read:
            self._ahead, self._is_read = ahead, True
        off = self._local() - self()
        if (apart := abs(off) > APART) != self._apart:
            self._apart = apart
            if apart:
                self._log.warning("this machine's clock is not the database's", seconds_ahead=round(off, 3))
            else:
                self._log.info("this machine's clock is the database's again", seconds_ahead=round(off, 3))

    async def keep(self, interval: float = READ_EVERY) -> None:
        """Read it every `interval` seconds, for ever; while the database is away, the clock goes on as it is."""
        while True:
            await asyncio.sleep(interval)
            try:
                await self.read()
            except AppException as error:
                self._log.warning("the database's clock was not read", reason=error.message)

    async def _sample(self) -> tuple[float, float]:
        """Return how long it took to ask, and by how much the database's clock is ahead of the monotonic one."""
        asked = self._monotonic()
        with translated_errors():
            [[now]] = await self._reader.rows(self._now)
        took = self._monotonic() - asked
        return took, now - (asked + took / 2)


@asynccontextmanager
async def open_clock(engine: AsyncEngine) -> AsyncIterator[DatabaseClock]:
    """Yield the clock, which is read as long as the block lasts; raise as `DatabaseClock.read` does."""
    clock = DatabaseClock(engine)
    await clock.read()
    async with background(clock.keep()):
        yield clock
