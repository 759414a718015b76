"""What was taken back and still matters, in PostgreSQL or SQLite."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import bindparam, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.access_token import LONGEST
from auth.revoked import CLOCKS_APART
from auth.table import REVOCATIONS, SESSION_EPOCH
from auth.transaction import transaction
from grpc_common.database.column_types import can_hold
from grpc_common.database.deletion import delete_some
from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.reader import Reader
from grpc_common.revocations import IssuedUntil, Revocation, TakenBack


class SqlRevocations:
    """The table that `security_events.tell` writes; `clock` gives Unix seconds.

    Every verb raises ExternalServiceError when the database cannot be reached or does not answer in time.
    """

    def __init__(self, engine: AsyncEngine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    async def recent(self) -> Sequence[TakenBack]:
        """Return the sessions and tokens taken back of which a token may be alive."""
        now, reader = self._clock(), Reader(self._engine)
        with translated_errors():
            rows = await reader.rows(_ALIVE, {"now": now})
            ended = await reader.rows(_ENDED, {"since": now - LONGEST - CLOCKS_APART})
        several = [Revocation(row.identifier, row.expires_at) for row in rows]
        return [*several, *(IssuedUntil(row.issued_until) for row in ended)]

    async def holds(self, *identifiers: str, issued_at: float | None) -> bool:
        """Say whether one of those sessions and tokens was taken back and one of its tokens may be alive, or all that
        were issued then.
        """
        named = [each for each in identifiers if each and can_hold(each)]
        asked = {"identifiers": named, "now": self._clock(), "issued_at": 0.0 if issued_at is None else issued_at}
        with translated_errors():
            (row,) = await Reader(self._engine).rows(_HELD, asked)
        return bool(row.held)

    async def forget(self, limit: int) -> int:
        """Forget up to `limit` others; return how many."""
        async with transaction(self._engine) as connection:
            return await delete_some(connection, REVOCATIONS, REVOCATIONS.c.expires_at <= self._clock(), limit)


_ALIVE: Final = select(REVOCATIONS.c.identifier, REVOCATIONS.c.expires_at).where(
    REVOCATIONS.c.expires_at > bindparam("now")
)
_ENDED: Final = select(SESSION_EPOCH.c.issued_until).where(SESSION_EPOCH.c.issued_until > bindparam("since"))
_HELD: Final = select(
    or_(
        exists(_ALIVE.where(REVOCATIONS.c.identifier.in_(bindparam("identifiers", expanding=True)))),
        exists(
            select(SESSION_EPOCH.c.id).where(
                SESSION_EPOCH.c.issued_until >= bindparam("issued_at"), SESSION_EPOCH.c.issued_until > 0
            )
        ),
    ).label("held")
)
