"""Tells other processes on the same PostgreSQL that there are new events, and hears it from them."""

import asyncio
import re
from collections.abc import Callable
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

TOGETHER: Final = 0.02
"""Seconds in which many changes make one notification."""
RETRY_AFTER: Final = 1.0


class Wakeups:
    """Calls `heard` soon after any process called `stir` of the same channel, on PostgreSQL; elsewhere there is one
    process and no need. The channel's name is like that of a table: small letters, digits and underscores.

    A notification is sent after the commit, by itself: in the transaction it would have all commits wait for each
    other, as PostgreSQL sends them in the order of commits. One that gets lost costs a relay no more than its poll.
    """

    def __init__(self, engine: AsyncEngine, channel: str, heard: Callable[[], None]) -> None:
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", channel):
            raise ValueError(f"{channel!r} is no name for a channel: small letters, digits and underscores, at most 63")
        self._engine = engine
        self._channel = channel
        self._heard = heard
        self._stirred = asyncio.Event()
        self._log = structlog.get_logger(component="wakeups")

    def stir(self) -> None:
        """Says that this process committed a change."""
        self._stirred.set()

    async def run(self) -> None:
        """Listens and tells, for ever."""
        if self._engine.dialect.name != "postgresql":
            return
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001  # the database comes back, and relays look by themselves
                self._log.warning("not woken by other processes", reason=str(error) or type(error).__name__)
            await asyncio.sleep(RETRY_AFTER)

    async def _listen(self) -> None:
        async with self._engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            if driver is None:
                return
            lost = asyncio.Event()

            def terminated(*_: object) -> None:
                lost.set()
                self._stirred.set()

            def heard(*_: object) -> None:
                self._heard()

            driver.add_termination_listener(terminated)
            await driver.add_listener(self._channel, heard)
            try:
                self._heard()  # what was told while nobody listened
                while True:
                    await self._stirred.wait()
                    if lost.is_set():
                        raise ConnectionError("the connection is lost")
                    self._stirred.clear()
                    await driver.execute(f"NOTIFY {self._channel}")
                    await asyncio.sleep(TOGETHER)
            finally:
                if not driver.is_closed():
                    await driver.remove_listener(self._channel, heard)
                    driver.remove_termination_listener(terminated)
