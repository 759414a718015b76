"""Wakes those who watch for changes."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

import structlog

from grpc_common.errors import AppException, ExternalServiceError, OutOfRangeError
from items.changes import PLACED_AT_ONCE, ChangeLog, PlacedChange

READ_AT_ONCE = 200


class ChangeFeed:
    """Follows the log of changes for all watchers of this process, each from its own position at its own pace.

    As long as anybody watches, changes are put in order as they are committed: at once where this process made them,
    and after at most `poll` seconds where another did. A watcher that does not read holds nothing but its place.
    """

    def __init__(self, log: ChangeLog, *, poll: float) -> None:
        self._log = log
        self._poll = poll
        self._watchers = 0
        self._stirred = asyncio.Event()
        self._news = asyncio.Event()
        self._end = 0
        self._over = False
        self._events = structlog.get_logger(component="changes")

    def stir(self) -> None:
        """Says that this process committed a change."""
        self._stirred.set()

    def end(self) -> None:
        """Ends all that follow, now and later: the service stops."""
        self._over = True
        self._wake()

    async def run(self) -> None:
        """Puts changes in order and wakes the watchers, for ever."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            while self._watchers:
                if await self._round() < PLACED_AT_ONCE:
                    await self._pause()

    async def follow(self, after: int | None, *, quiet: float) -> AsyncGenerator[PlacedChange | int]:
        """Gives the changes after a position, or from now on; and a position alone to begin with, and whenever nothing
        happened for `quiet` seconds.

        Raises:
            OutOfRangeError: the changes after this position are no longer kept, or have not happened.
            ExternalServiceError: the database is gone, or the service stops.
        """
        with self._watching():
            if after is None:
                position = await self._now()
            else:
                await self._check(position := after)
            yield position
            while True:
                news = self._news
                if self._over:
                    raise ExternalServiceError("the server stops: watch on from the last resume token, at another one")
                found = await self._log.read(position, READ_AT_ONCE)
                if position < found.head.trimmed:
                    raise _too_old()
                for placed in found.changes:
                    position = placed.position
                    yield placed
                if not found.changes and not await _set_within(news, quiet):
                    yield position

    async def _now(self) -> int:
        """The position of the last change that is committed: those that nobody watched for have to be given one."""
        while await self._log.place() == PLACED_AT_ONCE:
            pass
        return (await self._log.head()).placed

    async def _check(self, position: int) -> None:
        head = await self._log.head()
        if position < head.trimmed:
            raise _too_old()
        if position > head.placed:
            raise OutOfRangeError("the resume token is of another database: read all items anew", field="resume_token")

    @contextmanager
    def _watching(self) -> Iterator[None]:
        self._watchers += 1
        self._stirred.set()
        try:
            yield
        finally:
            self._watchers -= 1

    async def _round(self) -> int:
        try:
            placed = await self._log.place()
            end = (await self._log.head()).placed
        except AppException as error:  # watchers find out for themselves, and the database comes back
            self._events.warning("changes cannot be put in order", reason=error.message)
            return 0
        if end != self._end:
            self._end = end
            self._wake()
        return placed

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _pause(self) -> None:
        await _set_within(self._stirred, self._poll)
        self._stirred.clear()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Says whether the event came before the time was over."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def _too_old() -> OutOfRangeError:
    return OutOfRangeError(
        "the changes after this resume token are no longer kept: read all items anew, and watch from then on",
        field="resume_token",
    )
