"""Keeps families of refresh tokens in PostgreSQL or SQLite."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from auth.audit import Kind, SecurityEvent
from auth.family import Ending, Family
from auth.security_events import tell
from auth.table import FAMILIES, family_of, row_of_family
from auth.transaction import nobody, transaction
from grpc_common.database.column_types import can_hold
from grpc_common.database.deletion import delete_some
from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.reader import Reader


class SqlFamilies:
    """`Families` in the table of that name. `changed` is called when an event is committed."""

    def __init__(self, engine: AsyncEngine, changed: Callable[[], None] = nobody) -> None:
        self._engine = engine
        self._changed = changed
        self._reader = Reader(engine)

    async def add(self, family: Family, event: SecurityEvent | None = None) -> None:
        """Insert the family."""
        async with transaction(self._engine, nobody if event is None else self._changed) as connection:
            await connection.execute(insert(FAMILIES).values(row_of_family(family)))
            await tell(connection, [] if event is None else [event])

    async def find(self, family_id: str) -> Family | None:
        """Read one row by its key."""
        if not can_hold(family_id):
            return None
        with translated_errors():
            rows = await self._reader.rows(_FIND, {"family_id": family_id})
        return family_of(rows[0]) if rows else None

    async def replace(self, family: Family) -> bool:
        """Write the row in one statement, if its generation is the one before."""
        before = (FAMILIES.c.generation == family.generation - 1, FAMILIES.c.revoked.is_(None))
        replacing = update(FAMILIES).where(FAMILIES.c.id == family.id, *before).values(row_of_family(family))
        async with transaction(self._engine) as connection:
            return (await connection.execute(replacing)).rowcount == 1

    async def revoke(self, family_id: str, ending: Ending, at: float) -> bool:
        """Note the ending in one statement, if there is none."""
        if not can_hold(family_id):
            return False
        async with transaction(self._engine, self._changed) as connection:
            return await _revoke(connection, FAMILIES.c.id == family_id, ending, at) == 1

    async def revoke_all(self, subject: str, ending: Ending, at: float, *, keep: str = "") -> int:
        """Note the ending of all families at once."""
        async with transaction(self._engine, self._changed) as connection:
            return await end_all(connection, subject, ending, at, keep=keep)

    async def forget(self, before: float, limit: int) -> int:
        """Delete those that nobody else is changing."""
        async with transaction(self._engine) as connection:
            return await delete_some(connection, FAMILIES, FAMILIES.c.rotated_at < before, limit)


_FIND: Final = select(FAMILIES).where(FAMILIES.c.id == bindparam("family_id"))


async def end_all(connection: AsyncConnection, subject: str, ending: Ending, at: float, *, keep: str = "") -> int:
    """Note the ending of all families of the subject but `keep`, in the transaction that is the reason; return how many
    there were.
    """
    if not can_hold(subject):
        return 0
    kept = keep if can_hold(keep) else ""
    theirs = select(FAMILIES.c.id).where(
        FAMILIES.c.subject == subject, FAMILIES.c.id != kept, FAMILIES.c.revoked.is_(None)
    )
    # In one order, so that two who do this at the same time do not wait for each other's rows for ever.
    locked = theirs.order_by(FAMILIES.c.id).with_for_update().cte("theirs")
    return await _revoke(connection, FAMILIES.c.id.in_(select(locked.c.id)), ending, at)


async def _revoke(connection: AsyncConnection, which: ColumnElement[bool], ending: Ending, at: float) -> int:
    revoking = (
        update(FAMILIES)
        .where(which, FAMILIES.c.revoked.is_(None))
        .values(revoked=ending)
        .returning(FAMILIES.c.id, FAMILIES.c.subject, FAMILIES.c.client_id)
    )
    revoked = (await connection.execute(revoking)).all()
    await tell(connection, [_revoked(family, ending, at) for family in revoked])
    return len(revoked)


def _revoked(family: Any, ending: Ending, at: float) -> SecurityEvent:
    return SecurityEvent(
        kind=Kind.SESSION_REVOKED,
        at=datetime.fromtimestamp(at, UTC),
        subject=family.subject,
        client_id=family.client_id,
        session_id=family.id,
        reason=ending,
    )
