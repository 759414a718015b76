"""A bounded queue before something that is done a few at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from grpc_common.errors import RateLimitError

RETRY_AFTER: Final = 1.0


class Turns:
    """Lets `at_once` blocks run at the same time and `waiting` more wait, in the order in which they came."""

    def __init__(self, *, at_once: int, waiting: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._room = at_once + waiting

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Run the block when its turn has come.

        Raises:
            RateLimitError: too many wait already.
        """
        if self._room <= 0:
            raise RateLimitError("too many log in at once", retry_after=RETRY_AFTER)
        self._room -= 1
        try:
            async with self._free:
                yield
        finally:
            self._room += 1
