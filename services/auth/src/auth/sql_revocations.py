"""What was taken back and still matters, in PostgreSQL or SQLite."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.table import REVOCATIONS
from auth.transaction import transaction
from grpc_common.database.column_types import can_hold
from grpc_common.database.deletion import delete_some
from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.reader import Reader
from grpc_common.revocations import Revocation


class SqlRevocations:
    """The table that `security_events.tell` writes; `clock` gives Unix seconds.

    Every verb raises ExternalServiceError when the database cannot be reached or does not answer in time.
    """

    def __init__(self, engine: AsyncEngine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    async def recent(self) -> Sequence[Revocation]:
        """Return the sessions and tokens taken back of which a token may be alive."""
        with translated_errors():
            rows = await Reader(self._engine).rows(_ALIVE, {"now": self._clock()})
        return [Revocation(row.identifier, row.expires_at) for row in rows]

    async def holds(self, identifier: str) -> bool:
        """Say whether that session or token was taken back and one of its tokens may be alive."""
        if not can_hold(identifier):
            return False
        with translated_errors():
            rows = await Reader(self._engine).rows(_HELD, {"identifier": identifier, "now": self._clock()})
        return bool(rows)

    async def forget(self, limit: int) -> int:
        """Forget up to `limit` others; return how many."""
        async with transaction(self._engine) as connection:
            return await delete_some(connection, REVOCATIONS, REVOCATIONS.c.expires_at <= self._clock(), limit)


_ALIVE: Final = select(REVOCATIONS.c.identifier, REVOCATIONS.c.expires_at).where(
    REVOCATIONS.c.expires_at > bindparam("now")
)
_HELD: Final = _ALIVE.where(REVOCATIONS.c.identifier == bindparam("identifier")).limit(1)
