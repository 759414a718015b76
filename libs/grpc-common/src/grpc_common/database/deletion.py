"""Deletes what is over, in small steps."""

from typing import Any

from sqlalchemy import ColumnElement, Table, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection


async def delete_some(connection: AsyncConnection, table: Table, over: ColumnElement[bool], limit: int) -> int:
    """Delete up to `limit` rows that are over, and return how many. The table has a key of one column.

    What another transaction is changing or deleting is left for later: several processes that do this at the same time
    share the work, and nobody waits.
    """
    key: Any = table.primary_key.columns[0]
    # PostgreSQL does what a CTE says once, and a subquery as often as it likes.
    chosen = select(key).where(over).limit(limit).with_for_update(skip_locked=True).cte("chosen")
    deleting = delete(table).where(key.in_(select(chosen.c[key.name]))).returning(key)
    # SQLite's driver counts no rows of a statement that begins with a CTE.
    return len((await connection.execute(deleting)).all())
