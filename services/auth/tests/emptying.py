"""A database as it was when nobody had used it."""

from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.table import ADMINISTRATORS, CLIENTS, FAMILIES, OUTBOX, REVOCATIONS, SESSION_EPOCH, USERS


async def empty(engine: AsyncEngine) -> None:
    """Forget everybody and everything."""
    async with engine.begin() as connection:
        for table in (USERS, CLIENTS, FAMILIES, REVOCATIONS, OUTBOX):
            await connection.execute(delete(table))
        await connection.execute(update(SESSION_EPOCH).values(epoch=0, issued_until=0.0))
        await connection.execute(update(ADMINISTRATORS).values(first_id=None, removals=0))
