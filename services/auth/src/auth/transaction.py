"""One transaction of a change and of the events that tell of it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from auth.table import CLIENTS, USERS
from grpc_common.database.driver_errors import translated_errors

_NOUNS: Final = {USERS.name: "user", CLIENTS.name: "client"}


def nobody() -> None:
    """Hear nothing."""


@asynccontextmanager
async def transaction(engine: AsyncEngine, committed: Callable[[], None] = nobody) -> AsyncIterator[AsyncConnection]:
    """Yield a connection whose changes are kept when the block ends, all or none; `committed` is called then.

    Raises:
        ConflictError: another user or client has the name.
        ExternalServiceError: the database cannot be reached or does not answer in time.
        DatabaseError: it fails in another way.
    """
    with translated_errors(_NOUNS):
        async with engine.begin() as connection:
            yield connection
    committed()
